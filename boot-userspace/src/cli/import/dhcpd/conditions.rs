//! Conditions of `if` and of classes: which clients they are for. Kea's have the same content in another form.

use super::super::clients::{Clients, all_of};
use super::super::dnsmasq::vendor_class;
use super::super::options;

/// One of these descriptions, and all others.
type Both = (Vec<Clients>, Vec<Clients>);

/// Words of a condition.
const LONGEST: usize = 1000;

/// Reads an expression of dhcpd.
///
/// # Errors
/// Why the configuration cannot say it.
pub(in crate::cli::import) fn dhcpd(words: &[&str]) -> Result<Both, String> {
    // Each word may be a step deeper.
    if words.len() > LONGEST {
        return Err(format!("the condition has more than {LONGEST} words"));
    }
    // Brackets around everything say nothing.
    if let ["(", inner @ .., ")"] = words
        && closes(inner)
    {
        return dhcpd(inner);
    }
    if let Some((a, b)) = split(words, "or") {
        let ((a, not_a), (b, not_b)) = (dhcpd(a)?, dhcpd(b)?);
        return Ok(([a, b].concat(), all_of(&not_a, &not_b)));
    }
    if let Some((a, b)) = split(words, "and") {
        return both(dhcpd(a)?, dhcpd(b)?);
    }
    match words {
        ["not", rest @ ..] => dhcpd(rest).map(|(yes, no)| (no, yes)),
        ["exists", "user-class"] | ["exists", "dhcp.user-class"] => Ok(anybody()),
        ["exists", option] if option.starts_with("ipxe.") || option.starts_with("gpxe.") => {
            one(Clients::ipxe())
        }
        ["exists", "vendor-class-identifier"] => Ok(anybody()),
        ["option", "user-class", "=", class]
        | ["substring", "(", "option", "user-class", ",", _, ",", _, ")", "=", class] => ipxe(class),
        ["option", "vendor-class-identifier", "=", class]
        | ["substring", "(", "option", "vendor-class-identifier", ",", "0", ",", _, ")", "=", class] => {
            one(vendor_class(class)?)
        }
        ["substring", "(", "option", "vendor-class-identifier", ",", "15", ",", "5", ")", "=", arch] => {
            one(Clients::arch(arch.parse().map_err(|_| format!("{arch:?} is no architecture"))?))
        }
        ["option", name, "=", arch] if options::by_name(name).is_some_and(|(code, _)| code == 93) => {
            one(Clients::arch(number(arch)?))
        }
        ["known"] => Err("xpxe has no condition for all machines that it knows".to_owned()),
        _ => Err("xpxe has no such condition".to_owned()),
    }
}

/// Nobody is excluded by asking whether a client says something at all: what it says is asked next.
fn anybody() -> Both {
    (vec![Clients::default()], Vec::new())
}

fn one(clients: Clients) -> Result<Both, String> {
    let not = clients.not();
    // Who is firmware is asked for boot files only, which nobody else wants.
    let not = not.or_else(|| (clients == Clients::firmware()).then(Vec::new));
    Ok((vec![clients], not.ok_or_else(|| "xpxe has no condition for all other clients".to_owned())?))
}

fn both((a, not_a): Both, (b, not_b): Both) -> Result<Both, String> {
    Ok((all_of(&a, &b), [not_a, not_b].concat()))
}

fn ipxe(class: &str) -> Result<Both, String> {
    match class.eq_ignore_ascii_case("ipxe") || class.eq_ignore_ascii_case("gpxe") {
        true => one(Clients::ipxe()),
        false => Err(format!("xpxe knows no user class but iPXE's, not {class:?}")),
    }
}

/// `00:07`, `0x0007` or `7`.
fn number(text: &str) -> Result<u16, String> {
    let bytes = if text.contains(':') || text.starts_with("0x") { options::hex(text) } else { None };
    let number = match bytes.as_deref() {
        Some([high, low]) => Some(u16::from_be_bytes([*high, *low])),
        Some([low]) => Some(u16::from(*low)),
        Some(_) => None,
        None => text.parse().ok(),
    };
    number.ok_or_else(|| format!("{text:?} is no architecture"))
}

fn closes(words: &[&str]) -> bool {
    let mut open = 0_i32;
    words.iter().all(|word| {
        open += i32::from(*word == "(") - i32::from(*word == ")");
        open >= 0
    })
}

/// What stands before and behind the first such word outside of brackets.
fn split<'w>(words: &'w [&'w str], by: &str) -> Option<(&'w [&'w str], &'w [&'w str])> {
    let mut open = 0_i32;
    let at = words.iter().position(|word| {
        open += i32::from(*word == "(") - i32::from(*word == ")");
        open == 0 && *word == by
    })?;
    Some((words.get(..at)?, words.get(at + 1..)?))
}

/// Reads a test of Kea's classes: `option[93].hex == 0x0007`.
///
/// # Errors
/// Why the configuration cannot say it.
pub(in crate::cli::import) fn kea(test: &str) -> Result<Both, String> {
    let mut words: Vec<String> = Vec::new();
    let mut rest = test.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            c if c.is_whitespace() => {}
            '\'' => {
                let mut text = String::new();
                while let Some(c) = rest.next_if(|c| *c != '\'') {
                    text.push(c);
                }
                rest.next();
                words.push(text);
            }
            '(' | ')' | ',' => words.push(c.to_string()),
            '=' => {
                rest.next_if_eq(&'=');
                words.push("=".to_owned());
            }
            c => {
                let mut text = String::from(c);
                while let Some(c) = rest.next_if(|c| !c.is_whitespace() && !"(),='".contains(*c)) {
                    text.push(c);
                }
                // `option[93].hex` and `option[client-system].hex`
                let option = text.strip_prefix("option[").and_then(|rest| rest.split_once(']'));
                let Some((name, form)) = option else {
                    words.push(text);
                    continue;
                };
                let code = name.parse().ok().or_else(|| options::by_name(name).map(|(code, _)| code));
                let name = match code {
                    Some(60) => "vendor-class-identifier".to_owned(),
                    Some(77) => "user-class".to_owned(),
                    Some(93) => "client-arch".to_owned(),
                    Some(175) => "ipxe.any".to_owned(),
                    Some(code) => code.to_string(),
                    None => name.to_owned(),
                };
                words.push(if form == ".exists" { "exists" } else { "option" }.to_owned());
                words.push(name);
            }
        }
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    dhcpd(&words)
}
