//! Whether a document is of its format, as far as its own reader would refuse it as a whole.

use roxmltree::ParsingOptions;

use super::document_kind::DocumentKind;
use super::value::{either, quoted};
use super::yaml::{self, Node};

/// What is wrong with a document, with the line in it, from 1.
pub(super) type Wrong = (Option<usize>, String);

/// Whether a document is what its kind says.
pub(super) fn check(kind: DocumentKind, text: &str) -> Result<(), Wrong> {
    match kind {
        DocumentKind::MetaData => mapping(text).map(drop),
        DocumentKind::UserData | DocumentKind::VendorData => user_data(text),
        DocumentKind::NetworkConfig => network_config(text),
        DocumentKind::Autoinstall => autoinstall(text),
        DocumentKind::Ignition => ignition(text),
        DocumentKind::Talos => talos(text),
        DocumentKind::Kickstart => kickstart(text),
        DocumentKind::Preseed => preseed(text),
        DocumentKind::Autoyast => autoyast(text),
        DocumentKind::Generic => Ok(()),
    }
}

fn wrong<T>(line: impl Into<Option<usize>>, what: impl Into<String>) -> Result<T, Wrong> {
    Err((line.into(), what.into()))
}

/// One YAML document that is a mapping.
fn mapping(text: &str) -> Result<Node, Wrong> {
    let mut documents = yaml::read(text)?;
    match (documents.pop(), documents.len()) {
        (Some(node @ Node::Map(_)), 0) => Ok(node),
        (_, 1..) => wrong(None, "has several YAML documents; write one"),
        _ => wrong(1, "is no YAML mapping; write keys with a colon, such as local-hostname: node1"),
    }
}

/// How a user-data begins that cloud-init knows (its documentation, "User-data formats").
const BEGINNINGS: [&str; 10] = [
    "#cloud-config",
    "#cloud-config-archive",
    "#!",
    "#include",
    "#include-once",
    "#cloud-boothook",
    "#part-handler",
    "## template: jinja",
    "Content-Type: multipart/",
    "MIME-Version:",
];

fn user_data(text: &str) -> Result<(), Wrong> {
    let first = text.lines().next().unwrap_or_default();
    let begins = |beginning: &&&str| match **beginning {
        whole @ ("#cloud-config" | "#cloud-config-archive" | "#include" | "#include-once") => {
            first.trim_end() == whole
        }
        beginning => first.starts_with(beginning),
    };
    match BEGINNINGS.iter().find(begins) {
        Some(&"#cloud-config") => match yaml::read(text)?.as_slice() {
            [] | [Node::Map(_)] => Ok(()),
            _ => wrong(2, "is no cloud-config: that is one YAML mapping; write keys with a colon"),
        },
        Some(&"#cloud-config-archive") => yaml::read(text).map(drop),
        Some(_) => Ok(()),
        None => wrong(
            1,
            format!(
                "begins with {}, so cloud-init does nothing with it; begin with {}",
                quoted(first),
                either(BEGINNINGS)
            ),
        ),
    }
}

fn network_config(text: &str) -> Result<(), Wrong> {
    let root = mapping(text)?;
    let network = root.get("network").unwrap_or(&root);
    match network.get("version").and_then(Node::text) {
        Some("1" | "2") => Ok(()),
        _ => wrong(None, "has no version that cloud-init knows; write version: 2, or version: 1"),
    }
}

fn autoinstall(text: &str) -> Result<(), Wrong> {
    if text.lines().next().map(str::trim_end) != Some("#cloud-config") {
        return wrong(1, "is fetched as user-data; begin with #cloud-config");
    }
    let root = mapping(text)?;
    match root.get("autoinstall") {
        Some(autoinstall @ Node::Map(_)) => match autoinstall.get("version").and_then(Node::text) {
            Some("1") => Ok(()),
            _ => wrong(None, "has no version that the installer knows; write version: 1 in autoinstall"),
        },
        _ => wrong(None, "has no mapping autoinstall:; write it, with version: 1 in it"),
    }
}

fn ignition(text: &str) -> Result<(), Wrong> {
    let root: serde_json::Value = serde_json::from_str(text)
        .map_err(|error| (Some(error.line()), format!("is no JSON: {error}; correct it")))?;
    let version = root.get("ignition").and_then(|ignition| ignition.get("version"));
    match version.and_then(serde_json::Value::as_str) {
        Some(version) if version.split('.').count() == 3 && !version.starts_with('.') => Ok(()),
        _ => {
            wrong(None, "has no version; write { \"ignition\": { \"version\": \"3.3.0\" } }, as butane does")
        }
    }
}

fn talos(text: &str) -> Result<(), Wrong> {
    let documents = yaml::read(text)?;
    if documents.is_empty() {
        return wrong(1, "is empty; write a machine configuration as talosctl gen config does");
    }
    let has = |node: &Node, key: &str| node.get(key).is_some();
    for document in &documents {
        let is_first_format = has(document, "version") && has(document, "machine");
        let is_later_format = has(document, "apiVersion") && has(document, "kind");
        if !is_first_format && !is_later_format {
            return wrong(
                None,
                "has a document that is no machine configuration; each has version: v1alpha1 and machine:, or apiVersion: \
                 and kind:",
            );
        }
    }
    Ok(())
}

/// Sections end with `%end`, and are never one in another (pykickstart's documentation).
fn kickstart(text: &str) -> Result<(), Wrong> {
    const SECTIONS: [&str; 8] =
        ["%pre", "%pre-install", "%post", "%onerror", "%traceback", "%packages", "%addon", "%certificate"];
    let mut open: Option<(usize, &str)> = None;
    let mut has_command = false;
    for (number, line) in (1..).zip(text.lines()) {
        let word = line.split_whitespace().next().unwrap_or_default();
        match open {
            None if word == "%end" => return wrong(number, "has %end without a section; remove it"),
            None if SECTIONS.contains(&word) => open = Some((number, word)),
            None if word.starts_with('%') && !matches!(word, "%include" | "%ksappend") => {
                return wrong(number, format!("has no section {word}; write {}", either(SECTIONS)));
            }
            None => has_command |= !word.is_empty() && !word.starts_with('#'),
            Some(_) if word == "%end" => open = None,
            Some((begin, section)) if SECTIONS.contains(&word) => {
                let what =
                    format!("begins {word} inside {section} of line {begin}; end that with %end first");
                return wrong(number, what);
            }
            Some(_) => {}
        }
    }
    match open {
        Some((begin, section)) => wrong(begin, format!("has no %end behind {section}; write it")),
        None if !has_command => {
            wrong(1, "has no command; write those of a kickstart, such as lang en_US.UTF-8")
        }
        None => Ok(()),
    }
}

/// Owner, question, type and value, or a comment; a backslash at the end continues a line.
fn preseed(text: &str) -> Result<(), Wrong> {
    const TYPES: [&str; 9] =
        ["string", "boolean", "select", "multiselect", "note", "text", "password", "title", "error"];
    let mut begin = None;
    let mut whole = String::new();
    for (number, line) in (1..).zip(text.lines()) {
        let first = *begin.get_or_insert(number);
        if let Some(part) = line.strip_suffix('\\') {
            whole.push_str(part);
            continue;
        }
        whole.push_str(line);
        let line = std::mem::take(&mut whole);
        begin = None;
        let mut words = line.split_whitespace();
        let Some(owner) = words.next().filter(|word| !word.starts_with('#')) else { continue };
        let (question, kind) = (words.next(), words.next());
        let is_flag = kind == Some("seen");
        if !question.is_some_and(|question| question.contains('/')) {
            let what = format!(
                "is no answer to a question; write owner, question, type and value, such as {owner} debian-installer/locale \
                 string en_US.UTF-8"
            );
            return wrong(first, what);
        }
        if !is_flag && !kind.is_some_and(|kind| TYPES.contains(&kind)) {
            return wrong(first, format!("has no type of question; write {}", either(TYPES)));
        }
    }
    if whole.is_empty() { Ok(()) } else { wrong(begin, "ends with a backslash; write the rest of the line") }
}

fn autoyast(text: &str) -> Result<(), Wrong> {
    let options = ParsingOptions { allow_dtd: true, ..ParsingOptions::default() };
    let document = roxmltree::Document::parse_with_options(text, options).map_err(|error| {
        let line = usize::try_from(error.pos().row).ok();
        (line, format!("is no XML: {error}; correct it"))
    })?;
    match document.root_element().tag_name().name() {
        "profile" => Ok(()),
        other => wrong(1, format!("is no AutoYaST profile but <{other}>; write <profile> around it")),
    }
}
