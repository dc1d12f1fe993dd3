//! Text files that the configuration names, and arguments with variables.

use super::*;

/// The configuration with these files beside it.
pub(super) fn with_files(text: &str, files: &[(&str, &str)]) -> Result<Config, Problems> {
    let read = |name: &str| {
        let file = files.iter().find(|(other, _)| *other == name);
        let (name, text) = file.ok_or_else(|| format!("cannot read {name}: there is no such file"))?;
        Ok(TextFile { name: format!("/etc/xpxe/{name}"), text: (*text).to_owned() })
    };
    parse_files_with(&[Source { name: "xpxe.toml".to_owned(), bytes: text.into() }], &read)
}

fn refused(text: &str, files: &[(&str, &str)]) -> String {
    with_files(text, files).expect_err(text).to_string()
}

const SCRIPT: &str = "#!ipxe\nkernel {{ kernel }} {{ args }}\n{% for file in initrds %}\ninitrd {{ file.url }}\n{% endfor %}\nboot\n";

#[test]
fn a_template_is_tried_with_a_sample_machine() {
    let profile =
        format!("{BASE}template = \"own.ipxe\"\n[[profile]]\nname = \"debug\"\ninherit = \"talos\"\n");
    let config = with_files(&profile, &[("own.ipxe", SCRIPT)]).unwrap();
    assert_eq!(config.templates.keys().collect::<Vec<_>>(), ["/etc/xpxe/own.ipxe"]);
    assert!(
        config.profiles.values().all(|profile| profile.template.as_deref() == Some("/etc/xpxe/own.ipxe"))
    );
    let wrong = |script: &str| refused(&profile, &[("own.ipxe", script)]);
    for (script, said) in [
        ("#!ipxe\n{{ kernal }}\n", "/etc/xpxe/own.ipxe:2: undefined value; name a variable that there is"),
        ("#!ipxe\n\n{% if kernel %}\n", "/etc/xpxe/own.ipxe:3: syntax error: unexpected end of input"),
        ("#!ipxe\n{{ machine.labels.role }}\n", "/etc/xpxe/own.ipxe:2: undefined value"),
        (
            "#!ipxe\n{% for one in range(9999) %}{% for two in range(9999) %}x{% endfor %}{% endfor %}",
            "shorten its loops",
        ),
        ("kernel {{ kernel }}\n", "/etc/xpxe/own.ipxe:1: is no iPXE script; write #!ipxe"),
    ] {
        let told = wrong(script);
        assert!(told.contains(said), "{told}");
    }
    assert_eq!(
        refused(&profile, &[]),
        "xpxe.toml:10: profile[0].template: cannot read own.ipxe: there is no such file"
    );
    let labelled =
        format!("{profile}[[machine]]\nmac = \"52:54:00:00:00:01\"\nlabels = {{ role = \"worker\" }}\n");
    let script = "#!ipxe\n{{ machine.labels.role }} {{ machine.labels.rack | default('none') }}\n";
    assert!(with_files(&labelled, &[("own.ipxe", script)]).is_ok());
}

#[test]
fn every_fault_of_every_file_is_named() {
    let text = format!(
        "{BASE}template = \"a\"\nargs = \"{{{{ nothing }}}}\"\n[[profile]]\nname = \"b\"\nkernel = \"k\"\ntemplate = \"b\"\n"
    );
    let said = refused(&text, &[("a", "#!ipxe\n{{ x }}"), ("b", "no script")]);
    assert_eq!(said.lines().count(), 3, "{said}");
    for part in ["xpxe.toml:11: profile[0].args: undefined value", "/etc/xpxe/a:2: ", "/etc/xpxe/b:1: "] {
        assert!(said.contains(part), "{said}");
    }
}

#[test]
fn arguments_have_variables_of_their_own_machine() {
    let good_args = "args = \"ds=nocloud;s={{ documents }} ip={{ machine.ip }}::{{ network.router }} {{ machine.labels.role }}\"";
    let machine = |labels: &str, args: &str| {
        format!("{BASE}[[machine]]\nmac = \"52:54:00:00:00:01\"\nlabels = {{ {labels} }}\n{args}\n")
    };
    assert!(parse(&machine("role = \"worker\"", good_args), "test").is_ok());
    bad(&machine("rack = \"7\"", good_args), &[(13, "machine[0].args", "undefined value")]);
    bad(&machine("", "args = \"{% if %}\""), &[(13, "machine[0].args", "syntax error")]);
    bad(
        &machine("", "args = '{{ \"a\\nb\" }}'"),
        &[(13, "machine[0].args", "kernel arguments are one line")],
    );
    bad(
        &format!("{BASE}arch.arm64 = {{ args = \"{{{{ args }}}}\" }}\n"),
        &[(10, "profile[0].arch.arm64.args", "undefined value")],
    );
}

#[test]
fn what_a_client_says_is_a_word() {
    for (said, word) in [
        ("CZ1234.5-6_7", "CZ1234.5-6_7"),
        ("To be filled by O.E.M.", "To_be_filled_by_O.E.M."),
        ("${net0/mac}", "__net0_mac_"),
        ("x\nboot", "x_boot"),
        ("a || shell", "a____shell"),
        ("<!ENTITY x>&amp;", "__ENTITY_x__amp_"),
        ("é\u{202e}", "__"),
    ] {
        assert_eq!(tame(said), word);
    }
    assert_eq!(tame(&"x".repeat(1000)).len(), 64);
}
