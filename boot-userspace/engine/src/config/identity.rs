//! `[identity]`: what happens while two machines have something that only one can have.

use super::reader::Table;
use super::report::{At, Report, one};
use super::value::choice;

/// `[identity]`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IdentityRules {
    /// `duplicate_uuid`: a machine shows the UUID of another one.
    pub duplicate_uuid: DuplicateUuid,
    /// `duplicate_mac`: a machine reports a network card of another one.
    pub duplicate_mac: DuplicateMac,
    /// `swapped_board`: a machine reports the serial number, the UUID, the BMC or the switch port of one that has other MACs.
    pub swapped_board: SwappedBoard,
}

/// What happens to a machine that shows another one's UUID.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DuplicateUuid {
    /// `ignore-uuid`: it is known by its MAC.
    #[default]
    IgnoreUuid,
    /// `hold`: it boots nothing until a person has decided.
    Hold,
}

/// What happens to a machine that reports another one's network card.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DuplicateMac {
    /// `hold`: it boots nothing until a person has decided.
    #[default]
    Hold,
    /// `report`: it is told, and nothing else.
    Report,
}

/// What happens to a board that is in the place of another one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SwappedBoard {
    /// `hold`: it boots nothing until a person has decided.
    #[default]
    Hold,
    /// `follow`: it is the machine that was there, with other MACs.
    Follow,
}

/// The section as it stands in the file.
#[derive(Default)]
pub(super) struct Written {
    duplicate_uuid: Option<At<String>>,
    duplicate_mac: Option<At<String>>,
    swapped_board: Option<At<String>>,
}

/// The section in the file.
pub(super) fn read(top: &Table<'_>, report: &mut Report<'_>) -> Written {
    let known = ["duplicate_uuid", "duplicate_mac", "swapped_board"];
    let Some(table) = top.table("identity", &known, report) else { return Written::default() };
    Written {
        duplicate_uuid: table.text("duplicate_uuid", "ignore-uuid", report),
        duplicate_mac: table.text("duplicate_mac", "hold", report),
        swapped_board: table.text("swapped_board", "hold", report),
    }
}

impl Written {
    /// Adds what a further file says.
    pub(super) fn add(&mut self, more: Self, report: &mut Report<'_>) {
        one(&mut self.duplicate_uuid, more.duplicate_uuid, report);
        one(&mut self.duplicate_mac, more.duplicate_mac, report);
        one(&mut self.swapped_board, more.swapped_board, report);
    }
}

/// The rules.
pub(super) fn check(from: &Written, report: &mut Report<'_>) -> IdentityRules {
    IdentityRules {
        duplicate_uuid: chosen(
            from.duplicate_uuid.as_ref(),
            &[("ignore-uuid", DuplicateUuid::IgnoreUuid), ("hold", DuplicateUuid::Hold)],
            report,
        ),
        duplicate_mac: chosen(
            from.duplicate_mac.as_ref(),
            &[("hold", DuplicateMac::Hold), ("report", DuplicateMac::Report)],
            report,
        ),
        swapped_board: chosen(
            from.swapped_board.as_ref(),
            &[("hold", SwappedBoard::Hold), ("follow", SwappedBoard::Follow)],
            report,
        ),
    }
}

fn chosen<T: Copy + Default>(from: Option<&At<String>>, words: &[(&str, T)], report: &mut Report<'_>) -> T {
    from.and_then(|at| at.read(report, |text| choice(text, words))).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    const BASE: &str = "[[interface]]\nname = \"eth1\"\ndhcp = \"proxy\"\n";

    #[test]
    fn the_rules_are_read_and_a_wrong_word_names_the_right_ones() {
        assert_eq!(parse(BASE, "test").unwrap().identity, IdentityRules::default());
        let text =
            "[identity]\nduplicate_uuid = \"hold\"\nduplicate_mac = \"report\"\nswapped_board = \"follow\"\n";
        assert_eq!(
            parse(&format!("{BASE}{text}"), "test").unwrap().identity,
            IdentityRules {
                duplicate_uuid: DuplicateUuid::Hold,
                duplicate_mac: DuplicateMac::Report,
                swapped_board: SwappedBoard::Follow,
            }
        );
        let wrong = parse(&format!("{BASE}[identity]\nduplicate_uuid = \"ignore\"\n"), "test").unwrap_err();
        assert!(wrong.to_string().contains("write \"ignore-uuid\" or \"hold\""), "{wrong}");
    }
}
