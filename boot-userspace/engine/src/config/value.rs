//! Texts that are words, paths and kernel arguments. What does not fit is told in a sentence.

use std::net::Ipv6Addr;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};

use super::suggest::closest;

/// Bytes of a kernel command line; the smallest limit of the kernels xpxe boots is 2048 with what others append.
pub(super) const MAX_ARGS: usize = 2000;

/// The `file` field of an answer without its NUL: many ROMs read no other place.
const MAX_BOOT_FILE: usize = 127;
/// As long as a key of Kubernetes may be, with its prefix.
const MAX_LABEL_KEY: usize = 317;
/// An option without the NUL that firmware expects at its end.
const MAX_BOOT_URL: usize = 254;

/// What stands before an image of the store in a profile: `image:NAME` or `image:URL`.
pub(super) const IMAGE: &str = "image:";

/// In quotes, on one line, and not longer than a person reads.
pub(super) fn quoted(text: &str) -> String {
    let mut start: String = text.chars().take(60).collect();
    if start.len() < text.len() {
        start.push('…');
    }
    format!("{start:?}")
}

/// "a, b or c"
pub(super) fn either<S: AsRef<str>>(words: impl IntoIterator<Item = S>) -> String {
    let words: Vec<S> = words.into_iter().collect();
    let mut list = String::new();
    for (index, word) in words.iter().enumerate() {
        list.push_str(match words.len() - index {
            _ if index == 0 => "",
            1 => " or ",
            _ => ", ",
        });
        list.push_str(word.as_ref());
    }
    list
}

/// " (did you mean …?)" if one of the words is near.
pub(super) fn did_you_mean<'c>(text: &str, words: impl IntoIterator<Item = &'c str>) -> String {
    closest(text, words).map(|word| format!(" (did you mean {word:?}?)")).unwrap_or_default()
}

/// One of a few words.
pub(super) fn choice<T: Copy>(text: &str, words: &[(&str, T)]) -> Result<T, String> {
    let known = || words.iter().map(|(word, _)| *word);
    words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value).ok_or_else(|| {
        let known_quoted = either(known().map(|word| format!("{word:?}")));
        format!("{} is not known; write {known_quoted}{}", quoted(text), did_you_mean(text, known()))
    })
}

/// A path that does not depend on where the daemon was started.
pub(super) fn absolute(text: &str) -> Result<PathBuf, String> {
    if text.contains('\0') {
        return Err("a path cannot contain a NUL character; remove it".to_owned());
    }
    let path = Path::new(text);
    if !path.is_absolute() {
        return Err(format!(
            "{} is not an absolute path; write the whole path, beginning with /",
            quoted(text)
        ));
    }
    Ok(path.to_owned())
}

/// A file in `boot_dir` or a URL.
pub(super) fn file(text: &str, boot_dir: &Path) -> Result<String, String> {
    if text.starts_with(IMAGE) {
        return Err(format!(
            "{} is an image, which only kernel and initrd can be; write a file in boot_dir",
            quoted(text)
        ));
    }
    if text.contains(|c: char| c.is_control()) {
        return Err(format!("{} contains a control character; remove it", quoted(text)));
    }
    if let Some((scheme, rest)) = text.split_once("://") {
        return url(text, scheme, rest);
    }
    let path = Path::new(text);
    if path.is_absolute() {
        let inside =
            path.strip_prefix(boot_dir).ok().and_then(Path::to_str).filter(|inside| !inside.is_empty());
        return Err(match inside {
            Some(inside) => {
                format!(
                    "{} is an absolute path; write it relative to boot_dir: {}",
                    quoted(text),
                    quoted(inside)
                )
            }
            None => format!(
                "{} is an absolute path; put the file in {} and write its path relative to that",
                quoted(text),
                boot_dir.display()
            ),
        });
    }
    if text.split('/').any(|part| part == "..") {
        return Err(format!("{} leaves boot_dir; write a path without \"..\"", quoted(text)));
    }
    if path.file_name().is_none() || text.ends_with('/') || text.ends_with("/.") {
        return Err(format!("{} does not name a file; write one, such as \"talos/vmlinuz\"", quoted(text)));
    }
    Ok(text.to_owned())
}

/// The URL of a server, which paths are put behind. It is shown in logs.
pub(super) fn server(text: &str, example: &str) -> Result<String, String> {
    let (scheme, rest) = text.split_once("://").unwrap_or_default();
    let place = if scheme.is_empty() { text } else { rest };
    let place = place.split(['/', '?', '#']).next().unwrap_or_default();
    // No message repeats it.
    if place.contains('@') {
        return Err(format!(
            "has a user or a password in it, which logs would show; write one such as {example:?}"
        ));
    }
    if scheme.is_empty() {
        return Err(format!("{} is no URL; write one such as {example:?}", quoted(text)));
    }
    let url = url(text, scheme, rest)?;
    if rest.contains(['?', '#']) {
        return Err(format!(
            "{} has a '?' or '#' in it, and paths are put behind it; write it without",
            quoted(text)
        ));
    }
    if !is_place(place) {
        return Err(format!(
            "{} has no host and port that can be reached; write one such as {example:?}",
            quoted(text)
        ));
    }
    Ok(url)
}

/// A host, and a port if there is one.
fn is_place(place: &str) -> bool {
    let (is_host, port) = match place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) => (address.parse::<Ipv6Addr>().is_ok(), port),
        None => {
            let (host, port) = place.split_at(place.find(':').unwrap_or(place.len()));
            let is_good = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_');
            (!host.is_empty() && host.chars().all(is_good), port)
        }
    };
    let is_port =
        |port: &str| port.bytes().all(|digit| digit.is_ascii_digit()) && port.parse::<NonZeroU16>().is_ok();
    is_host && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port))
}

pub(super) fn url(text: &str, scheme: &str, rest: &str) -> Result<String, String> {
    if !["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
        return Err(format!("{} is not fetched; write an http:// or https:// URL", quoted(text)));
    }
    if text.contains(char::is_whitespace) {
        return Err(format!("{} contains a space; write %20 instead", quoted(text)));
    }
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if host.is_empty() {
        return Err(format!("{} names no host; write it like \"http://10.1.0.2/vmlinuz\"", quoted(text)));
    }
    // In lower case, so that whoever looks for URLs finds it.
    Ok(format!("{}://{rest}", scheme.to_ascii_lowercase()))
}

/// What firmware boots: a file in `boot_dir` or a URL, short enough for a DHCP answer.
pub(super) fn boot_file(text: &str, boot_dir: &Path) -> Result<String, String> {
    let file = file(text, boot_dir)?;
    let max = if file.contains("://") { MAX_BOOT_URL } else { MAX_BOOT_FILE };
    if file.len() > max {
        return Err(format!("has {} bytes; firmware takes at most {max}", file.len()));
    }
    Ok(file)
}

/// Kernel arguments.
pub(crate) fn args(text: &str) -> Result<String, String> {
    if text.contains(['\n', '\r', '\0']) {
        return Err("kernel arguments are one line; remove the newlines and NUL characters".to_owned());
    }
    if text.len() > MAX_ARGS {
        return Err(format!("has {} bytes; shorten it to at most {MAX_ARGS}", text.len()));
    }
    Ok(text.to_owned())
}

/// The text of a label of a machine. Its key stands in selectors, in cells of CSV and on terminals as it is.
pub(super) fn label(key: &str, text: &str) -> Result<String, String> {
    let is_good = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '/');
    if key.is_empty() || key.len() > MAX_LABEL_KEY || !key.chars().all(is_good) {
        return Err(format!(
            "{} cannot be the key of a label; write 1 to {MAX_LABEL_KEY} letters, digits, '.', '_', '-' and '/'",
            quoted(key)
        ));
    }
    if text.contains(|c: char| c.is_control()) {
        return Err(format!("{} contains a control character; remove it", quoted(text)));
    }
    Ok(text.to_owned())
}

/// What follows `console=`: one word.
pub(super) fn console(text: &str) -> Result<String, String> {
    let is_word = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"');
    if !is_word || text.starts_with("console=") || text.len() > 63 {
        return Err(format!("{} is no console; write a device such as \"ttyS0,115200\"", quoted(text)));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_images_inside_boot_dir() {
        let image = |text| file(text, Path::new("/var/lib/xpxe/boot"));
        for text in [
            "vmlinuz",
            "talos/vmlinuz",
            "./a..b/c d",
            "http://10.1.0.2/vmlinuz",
            "https://a.example:8443/x?y=1",
        ] {
            assert_eq!(image(text).as_deref(), Ok(text));
        }
        assert_eq!(image("HTTP://H/x").as_deref(), Ok("http://H/x"));
        for (text, why) in [
            ("/var/lib/xpxe/boot/talos/vmlinuz", "write it relative to boot_dir: \"talos/vmlinuz\""),
            ("/boot/vmlinuz", "put the file in /var/lib/xpxe/boot"),
            ("../vmlinuz", "leaves boot_dir"),
            ("a/../../b", "leaves boot_dir"),
            ("a/..", "leaves boot_dir"),
            ("", "does not name a file"),
            (".", "does not name a file"),
            ("talos/", "does not name a file"),
            ("talos/.", "does not name a file"),
            ("a\nb", "control character"),
            ("a\0b", "control character"),
            ("tftp://10.1.0.2/x", "write an http:// or https:// URL"),
            ("file:///x", "write an http:// or https:// URL"),
            ("http:///x", "names no host"),
            ("http://", "names no host"),
            ("http://h/a b", "write %20"),
        ] {
            assert!(image(text).is_err_and(|told| told.contains(why)), "{text}: {why}");
        }
    }

    #[test]
    fn a_server_has_a_host_and_a_port_and_no_password() {
        let server = |text| server(text, "http://10.1.0.9:4318");
        for text in [
            "http://10.1.0.9:4318",
            "https://otel.example/a/b",
            "http://[fd00::9]:4318",
            "http://[::1]",
            "http://h_1/",
        ] {
            assert_eq!(server(text).as_deref(), Ok(text));
        }
        for (text, why) in [
            ("http://h:99999", "no host and port"),
            ("http://h:0", "no host and port"),
            ("http://h:+80", "no host and port"),
            ("http://h:", "no host and port"),
            ("http://:80", "no host and port"),
            ("http://[fd00::9:80", "no host and port"),
            ("http://fd00::9", "no host and port"),
            ("http://h?x=1", "'?' or '#'"),
            ("http://h/a#f", "'?' or '#'"),
            ("h:9000", "is no URL; write one such as \"http://10.1.0.9:4318\""),
            ("ftp://h", "write an http:// or https:// URL"),
            ("http:///x", "names no host"),
            ("http://me:s3cret@h:4318", "password"),
            ("me:s3cret@h", "password"),
            ("ftp://me:s3cret@h/", "password"),
        ] {
            let told = server(text).unwrap_err();
            assert!(told.contains(why) && !told.contains("s3cret"), "{text}: {told}");
        }
    }

    #[test]
    fn keeps_boot_files_short() {
        let boot_file = |text: &str| boot_file(text, Path::new("/srv"));
        let [name, url] = ["x".repeat(127), format!("http://{}", "x".repeat(247))];
        assert_eq!(boot_file(&name), Ok(name.clone()));
        assert_eq!(boot_file(&url), Ok(url.clone()));
        assert!(
            boot_file(&(name + "x")).is_err_and(|why| why.contains("128 bytes; firmware takes at most 127"))
        );
        assert!(
            boot_file(&(url + "x")).is_err_and(|why| why.contains("255 bytes; firmware takes at most 254"))
        );
        assert!(boot_file("../x").is_err_and(|why| why.contains("leaves boot_dir")));
    }

    #[test]
    fn limits_arguments() {
        assert_eq!(args("console=ttyS0 a=\"b c\""), Ok("console=ttyS0 a=\"b c\"".to_owned()));
        assert!(args(&"x".repeat(MAX_ARGS)).is_ok());
        assert!(args(&"x".repeat(MAX_ARGS + 1)).is_err_and(|why| why.contains("2001 bytes")));
        for text in ["a\nb", "a\rb", "a\0"] {
            assert!(args(text).is_err_and(|why| why.contains("one line")), "{text:?}");
        }
    }

    #[test]
    fn lists_what_can_be_written() {
        assert_eq!(either(["a"]), "a");
        assert_eq!(either(["a", "b"]), "a or b");
        assert_eq!(either(["a", "b", "c"]), "a, b or c");
        let told = choice("prox", &[("server", 1), ("proxy", 2)]);
        let expected = "\"prox\" is not known; write \"server\" or \"proxy\" (did you mean \"proxy\"?)";
        assert_eq!(told, Err(expected.to_owned()));
        assert_eq!(choice("proxy", &[("server", 1), ("proxy", 2)]), Ok(2));
    }

    #[test]
    fn paths_are_absolute() {
        assert_eq!(absolute("/var/lib"), Ok(PathBuf::from("/var/lib")));
        for text in ["", "var/lib", "~/x", "./x", "/a\0b"] {
            assert!(absolute(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn quotes_what_could_disturb_a_terminal() {
        assert_eq!(quoted("a\x1b[31m\n"), "\"a\\u{1b}[31m\\n\"");
        assert_eq!(quoted(&"é".repeat(70)), format!("\"{}…\"", "é".repeat(60)));
    }
}
