//! The configuration that is shipped.

use super::*;

const PACKAGED: &str = include_str!("../../../../../packaging/xpxe.toml");

#[test]
fn it_is_good() {
    let config = good(PACKAGED);
    assert_eq!(config.machines.len(), 1);
    let Config { fast_path_memory, tftp, .. } = Config::empty();
    assert_eq!((config.fast_path_memory, config.tftp), (fast_path_memory, tftp), "the defaults are shown");
    assert_eq!(config.subnets.first().map(|subnet| subnet.options.len()), Some(1));
}

/// Its keys in comments, too: each line that looks like TOML, without the `#`.
#[test]
fn what_is_commented_out_is_good() {
    let key = |line: &str| {
        let key = line.split_once(" = ").map_or("", |(key, _)| key);
        line.starts_with(['[', '{']) || (!key.is_empty() && !key.contains(' '))
    };
    let mut text = String::new();
    for line in PACKAGED.lines() {
        let inside = line.trim_start().strip_prefix("# ").filter(|inside| key(inside));
        // One of its two forms is enough.
        let twice = line.starts_with("# relay_port = \"");
        text.push_str(inside.filter(|_| !twice).unwrap_or(line));
        text.push('\n');
    }
    let read = |name: &str| {
        let text =
            if name.ends_with(".ipxe") { "#!ipxe\n" } else { "#cloud-config\nversion: 1\nmachine: {}\n" };
        Ok(TextFile { name: name.to_owned(), text: text.to_owned() })
    };
    let source = Source { name: "xpxe.toml".to_owned(), bytes: text.into() };
    let config = parse_files_with(&[source], &read).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(config.templates.len(), 5);
    assert_eq!(config.boot_files.len(), 1);
    assert_eq!(config.subnets.first().map(|subnet| subnet.options.len()), Some(8));
    let machine = config.machines.first().unwrap();
    assert!(machine.uuid.is_some() && machine.relay_port.is_some() && machine.boot_file.is_some());
    assert!(
        config.profiles.values().all(|profile| profile.boot_file.is_some() && profile.options.len() == 1)
    );
}
