use std::fs::Permissions;

use super::*;

#[test]
fn a_configuration_that_everybody_could_download_is_no_good() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("xpxe.toml");
    let interface = "[[interface]]\nname = 'eth1'\ndhcp = 'proxy'\n";
    let check = |boot_dir: &std::path::Path, no_files| {
        std::fs::create_dir_all(boot_dir).unwrap();
        std::fs::write(&file, format!("boot_dir = {boot_dir:?}\n{interface}")).unwrap();
        Check { file: crate::cli::ConfigFile { config: file.clone() }, no_files }.run()
    };
    let (fine, wrong) = (ExitCode::SUCCESS, ExitCode::from(1));
    let same = |a: ExitCode, b: ExitCode| assert_eq!(format!("{a:?}"), format!("{b:?}"));
    same(check(&dir.path().join("boot"), false), fine);
    same(check(dir.path(), false), wrong);
    same(check(dir.path(), true), fine);
}

#[test]
fn a_database_that_nobody_could_ask_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("password");
    let mut config =
        boot_engine::config::parse("[[interface]]\nname = 'eth1'\ndhcp = 'off'\n", "test").unwrap();
    assert!(store(&config, false).is_empty());
    let mut said = |url: &str, no_files| {
        let password_file = Some(file.clone());
        config.store = Some(boot_engine::config::Postgres { url: url.to_owned(), password_file });
        store(&config, no_files).join("\n")
    };
    let good = "postgres://xpxe@localhost/xpxe?sslmode=disable";
    assert!(said("postgres://xpxe@localhost:99999/xpxe", true).contains("invalid port"));
    assert!(said("postgres://xpxe@localhost/xpxe?sslmode=foo", true).contains("foo"));
    assert!(said(good, false).contains("cannot be read: No such file"));
    assert_eq!(said(good, true), "", "of another host nobody knows the files");
    fs::write(&file, "geheim\n").unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    let open = said(good, false);
    assert!(open.contains("can be read by everybody") && !open.contains("geheim"), "{open}");
    fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
    assert_eq!(said(good, false), "");
    // A pipe would be waited for, and a device never ends.
    fs::remove_file(&file).unwrap();
    nix::unistd::mkfifo(&file, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(said(good, false).contains("not a regular file"));
}

#[test]
fn a_bmc_password_that_cannot_be_used_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (all, own) = (dir.path().join("all"), dir.path().join("own"));
    let machine = |n: u8| {
        format!(
            "[[machine]]\nmac = '52:54:00:00:00:0{n}'\nname = 'node{n}'\n\
             bmc = {{ address = '10.9.0.{n}', password_file = {own:?} }}\n"
        )
    };
    let text = format!(
        "[[interface]]\nname = 'eth1'\ndhcp = 'off'\n[bmc]\nuser = 'admin'\npassword_file = {all:?}\n{}{}",
        machine(1),
        machine(2)
    );
    let config = boot_engine::config::parse(&text, "test").unwrap();
    let said = || bmc_passwords(&config);
    let missing = said();
    assert_eq!(missing.len(), 2, "{missing:?}");
    assert!(missing[0].contains("password_file in [bmc]") && missing[0].contains("No such file"));
    assert!(missing[1].contains("bmc of [[machine]] node1") && missing[1].contains("No such file"));
    let write = |text: &str, mode: u32| {
        for file in [&all, &own] {
            fs::write(file, text).unwrap();
            fs::set_permissions(file, Permissions::from_mode(mode)).unwrap();
        }
    };
    write("geheim\n", 0o600);
    assert!(said().is_empty());
    write("geheim\n", 0o604);
    assert!(said().iter().all(|why| why.contains("can be read by everybody") && !why.contains("geheim")));
    write("\n", 0o600);
    assert!(said().iter().all(|why| why.contains("its first line is empty")));
    // A pipe would be waited for.
    fs::remove_file(&own).unwrap();
    nix::unistd::mkfifo(&own, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(said()[1].contains("not a regular file"));
}

#[test]
fn an_interface_that_is_not_there_is_named() {
    let of = |name: &str| {
        let text = format!("[[interface]]\nname = {name:?}\ndhcp = 'proxy'\n");
        absent(&boot_engine::config::parse(&text, "test").unwrap())
    };
    let said = of("absent0").join("\n");
    assert!(said.contains("there is no interface \"absent0\"") && said.contains("does not start"), "{said}");
}

#[test]
fn a_webhooks_password_that_everybody_can_read_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("xpxe.toml");
    let said = |url: &str, mode| {
        let webhook = format!(
            "[[webhook]]\nname = 'chat'\nurl = '{url}'\nsecret_file = '/s'\nevents = 'state'\n\
             [[interface]]\nname = 'eth1'\ndhcp = 'off'\n"
        );
        fs::write(&file, &webhook).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
        let config = boot_engine::config::parse(&webhook, "test").unwrap();
        readable_passwords(&config, &file).join("\n")
    };
    let open = said("http://us:geheim@h.example/x", 0o644);
    assert!(open.contains("[[webhook]] chat") && !open.contains("geheim"), "{open}");
    for (url, mode) in [("http://us:geheim@h.example/x", 0o640), ("http://us@h.example/x?a=b:c@d", 0o644)] {
        assert_eq!(said(url, mode), "", "{url}");
    }
}
