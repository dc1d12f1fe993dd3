//! Documents: each kind is looked at when it is loaded.

use super::templates::with_files;
use super::*;

/// A profile with one document.
fn of(kind: &str, text: &str) -> Result<Config, Problems> {
    with_files(&format!("{BASE}documents = {{ {kind} = \"file\" }}\n"), &[("file", text)])
}

#[test]
fn good_documents_of_every_kind() {
    for (kind, text) in [
        ("meta-data", "instance-id: {{ machine.mac }}\nlocal-hostname: {{ machine.name }}\n"),
        ("user-data", "#cloud-config\nusers:\n  - name: admin\n"),
        ("user-data", "#cloud-config\n"),
        ("user-data", "#!/bin/sh\necho hello\n"),
        ("user-data", "Content-Type: multipart/mixed; boundary=\"=\"\n"),
        ("user-data", "## template: jinja\n#cloud-config\n"),
        ("vendor-data", "#cloud-config\n{% for one in network.dns %}\n# {{ one }}\n{% endfor %}\na: b\n"),
        ("network-config", "version: 2\nethernets: {eth0: {dhcp4: true}}\n"),
        ("network-config", "network:\n  version: 1\n  config: []\n"),
        (
            "autoinstall",
            "#cloud-config\nautoinstall:\n  version: 1\n  identity: {hostname: \"{{ machine.name }}\"}\n",
        ),
        ("ignition", "{ \"ignition\": { \"version\": \"3.3.0\" }, \"x\": {{ machine.labels | tojson }} }"),
        (
            "talos",
            "version: v1alpha1\nmachine:\n  type: worker\n---\napiVersion: v1alpha1\nkind: HostnameConfig\n",
        ),
        ("kickstart", "lang en_US\n%packages\n@core\n%end\n%post --log=/x\n# %packages\necho\n%end\n"),
        (
            "preseed",
            "# comment\nd-i debian-installer/locale string en_US\nd-i a/b multiselect x, \\\n  y\nd-i a/b seen true\n",
        ),
        (
            "autoyast",
            "<?xml version=\"1.0\"?>\n<!DOCTYPE profile>\n<profile xmlns=\"http://www.suse.com/1.0/yast2ns\"><a/></profile>",
        ),
    ] {
        let config = of(kind, text).unwrap_or_else(|problems| panic!("{kind}: {problems}"));
        let documents = &config.profiles["talos"].documents;
        let name = if kind == "autoinstall" { "user-data" } else { kind };
        assert_eq!(
            documents.get(name).map(|document| (document.kind.key(), document.file.as_str())),
            Some((kind, "/etc/xpxe/file"))
        );
    }
}

#[test]
fn broken_documents_are_named_with_file_and_line() {
    for (kind, text, line, said) in [
        ("meta-data", "- a\n", Some(1), "as meta-data it is no YAML mapping"),
        ("user-data", "#cloud-config\na: b\na: c\n", Some(3), "has the key \"a\" twice"),
        ("user-data", "#cloud-config\na: [\n", None, "is no YAML"),
        (
            "user-data",
            "cloud-config\na: b\n",
            Some(1),
            "begins with \"cloud-config\", so cloud-init does nothing with it",
        ),
        ("user-data", "#cloud-config # x\n", Some(1), "begins with"),
        ("vendor-data", "#cloud-config\njust a text\n", Some(2), "is no cloud-config"),
        ("network-config", "ethernets: {}\n", None, "write version: 2"),
        ("autoinstall", "autoinstall: {version: 1}\n", Some(1), "begin with #cloud-config"),
        (
            "autoinstall",
            "#cloud-config\nautoinstall: {version: 2}\n",
            None,
            "write version: 1 in autoinstall",
        ),
        ("ignition", "{ \"ignition\": {\n\"version\": 3 \n}", Some(3), "is no JSON"),
        ("ignition", "{}", None, "has no version"),
        ("talos", "machine: {}\n", None, "no machine configuration"),
        (
            "kickstart",
            "lang en\n%packages\n%post\n%end\n",
            Some(3),
            "begins %post inside %packages of line 2",
        ),
        ("kickstart", "lang en\n%post\n", Some(2), "has no %end behind %post"),
        ("kickstart", "lang en\n%end\n", Some(2), "has %end without a section"),
        ("kickstart", "lang en\n%pots\n%end\n", Some(2), "has no section %pots"),
        ("preseed", "d-i a/b string x\nd-i nothing\n", Some(2), "is no answer to a question"),
        ("preseed", "d-i a/b strnig x\n", Some(1), "has no type of question"),
        ("preseed", "d-i a/b string x \\\n", Some(1), "ends with a backslash"),
        ("autoyast", "<profile>\n<a>\n</profile>", Some(3), "is no XML"),
        ("autoyast", "<autoinst/>", Some(1), "is no AutoYaST profile but <autoinst>"),
        (
            "user-data",
            "#cloud-config\n{% for one in network.dns %}\n{{ one }}: [\n{% endfor %}\n",
            None,
            "is no YAML",
        ),
        ("user-data", "#cloud-config\n\nname: {{ machine.hostname }}\n", Some(3), "undefined value"),
    ] {
        let Problems(problems) = of(kind, text).expect_err(text);
        let [problem] = &problems[..] else { panic!("{problems:?}") };
        assert_eq!(problem.file, "/etc/xpxe/file");
        assert!(problem.message.contains(said), "{kind}: {problem:?}");
        assert!(line.is_none() || problem.line == line, "{kind}: {problem:?}");
    }
}

#[test]
fn documents_are_inherited_by_name() {
    let files =
        [("a", "#cloud-config\n"), ("b", "#cloud-config\nautoinstall: {version: 1}\n"), ("c", "a: b\n")];
    let config = with_files(
        &format!(
            "{BASE}documents = {{ user-data = \"a\", meta-data = \"c\" }}\n[[profile]]\nname = \"child\"\ninherit = \"talos\"\n\
             documents = {{ autoinstall = \"b\" }}\n[[machine]]\nmac = \"52:54:00:00:00:01\"\n[machine.documents]\nmeta-data = \"c\"\n"
        ),
        &files,
    )
    .unwrap();
    let child = &config.profiles["child"].documents;
    assert_eq!(
        child.all().map(|document| document.kind.key()).collect::<Vec<_>>(),
        ["meta-data", "autoinstall"]
    );
    assert!(
        config.machines[0].documents.as_ref().is_some_and(|documents| documents.get("meta-data").is_some())
    );
    let said = [&config.profiles["talos"].documents, child]
        .map(|documents| documents.all().any(|one| one.is_secret));
    assert_eq!((said, config.has_secrets()), ([false, false], false));
    let both = format!("{BASE}documents = {{ user-data = \"a\", autoinstall = \"b\", userdata = \"a\" }}\n");
    let said = with_files(&both, &files).unwrap_err().to_string();
    assert!(said.contains("profile[0].documents.autoinstall: is the same document as user-data"), "{said}");
    assert!(
        said.contains("profile[0].documents.userdata: there is no such key; did you mean user-data?"),
        "{said}"
    );
    let missing = format!("{BASE}documents = {{ talos = \"x\" }}\n");
    assert!(
        with_files(&missing, &files)
            .unwrap_err()
            .to_string()
            .starts_with("xpxe.toml:10: profile[0].documents.talos: ")
    );
}

#[test]
fn a_document_may_be_secret() {
    let files = [("a", "#cloud-config\n"), ("b", "a: b\n")];
    let with = |documents: &str| with_files(&format!("{BASE}documents = {{ {documents} }}\n"), &files);
    let config = with("user-data = { file = \"a\", secret = true }, meta-data = { file = \"b\" }").unwrap();
    let documents = &config.profiles["talos"].documents;
    let secret = |name| documents.get(name).map(|document| (document.file.as_str(), document.is_secret));
    assert_eq!(
        (secret("user-data"), secret("meta-data")),
        (Some(("/etc/xpxe/a", true)), Some(("/etc/xpxe/b", false)))
    );
    assert!(config.has_secrets());
    for (documents, why) in [
        (
            "user-data = { secret = true }",
            "documents.user-data.file: is missing; write file = \"templates/user-data\"",
        ),
        ("user-data = { file = \"a\", secret = \"yes\" }", "secret: has to be true or false"),
        (
            "user-data = { file = \"a\", secrets = true }",
            "secrets: there is no such key; did you mean secret?",
        ),
    ] {
        let said = with(documents).unwrap_err().to_string();
        assert!(said.contains(why), "{documents}: {said}");
    }
}
