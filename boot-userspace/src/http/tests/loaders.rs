//! The configuration of boot loaders.

use super::*;

const MAC: &str = "01-52-54-00-00-00-01";

#[tokio::test]
async fn a_loader_s_configuration_is_written_where_there_is_none() {
    let rig = rig().await;
    let mac = format!("{:?}", Some(Mac([0x52, 0x54, 0, 0, 0, 1])));
    for path in ["/files/grub/grub.cfg", "/grub/grub.cfg", "/tftp/grub.cfg"] {
        let text = rig.script(&format!("GET {path}-{MAC}")).await;
        assert!(text.contains(&mac) && text.contains("sleep 30"), "{path}: {text}");
        // The names with which it goes on lead here, too.
        let again = text.lines().find_map(|line| line.strip_prefix("source (http,")).unwrap();
        let (host, path) = again.split_once(')').unwrap();
        assert_eq!(host, rig.address.to_string());
        assert!(rig.script(&format!("GET {path}")).await.contains(&mac), "{path}");
    }
    for path in ["/grub/grub.cfg", "/files/grub/x86_64-efi/grub.cfg"] {
        assert!(rig.script(&format!("GET {path}")).await.contains("$net_default_mac"), "{path}");
    }
    let text = rig.script(&format!("GET /files/pxelinux.cfg/{MAC}")).await;
    assert!(text.contains(&mac) && text.contains(&format!("CONFIG pxelinux.cfg/{MAC}\n")), "{text}");
    let other = "/files/pxelinux.cfg/4c4c4544-0042-3510-8052-b4c04f4e3132";
    assert_eq!(rig.ask(&format!("GET {other}")).await.status, 404, "it asks by its MAC next");
    rig.site.machines.put(Ipv4Addr::LOCALHOST, Mac([0x52, 0x54, 0, 0, 0, 1]));
    for path in ["/grub/grub.cfg", "/files/pxelinux.cfg/default", "/files/pxelinux.cfg/7F000001"] {
        assert!(rig.script(&format!("GET {path}")).await.contains(&mac), "{path}");
    }
    assert_eq!(rig.ask("GET /files/pxelinux.cfg/7F0000").await.status, 404);
    assert_eq!(rig.ask("POST /grub/grub.cfg\nContent-Length: 0").await.status, 404);
}

#[tokio::test]
async fn a_configuration_in_boot_dir_comes_before_those_that_are_written() {
    let rig = rig().await;
    let put = |name: &str, text: &str| {
        let path = rig.dir.path().join("boot").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    put("grub/grub.cfg", "own");
    put("pxelinux.cfg/default", "own");
    put("bios/pxelinux.cfg/01-52-54-00-00-00-02", "of another");
    for path in ["/files/grub/grub.cfg", "/grub/grub.cfg", "/files/pxelinux.cfg/default"] {
        assert_eq!(rig.ask(&format!("GET {path}")).await.body, b"own", "{path}");
    }
    // A loader asks for these before.
    for path in [
        format!("/grub/grub.cfg-{MAC}"),
        "/files/grub/x86_64-efi/grub.cfg".to_owned(),
        format!("/files/pxelinux.cfg/{MAC}"),
    ] {
        assert_eq!(rig.ask(&format!("GET {path}")).await.status, 404, "{path}");
    }
    assert!(rig.script(&format!("GET /files/bios/pxelinux.cfg/{MAC}")).await.starts_with("SAY "));
    assert!(rig.script(&format!("GET /files/EFI/debian/grub.cfg-{MAC}")).await.starts_with("echo "));
}
