use super::*;

fn disk(name: &str, serial: &str) -> Disk {
    Disk { name: name.to_owned(), serial: serial.to_owned(), ..Disk::default() }
}

#[test]
fn removable_media_usb_and_what_is_no_disk_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let add = |name: &str, place: &str, files: &[(&str, &str)]| {
        let real = dir.path().join("devices").join(place).join(name);
        fs::create_dir_all(real.join("device")).unwrap();
        fs::create_dir_all(real.join("queue")).unwrap();
        for (file, text) in [&[("size", "2048\n"), ("removable", "0\n"), ("ro", "0\n")], files].concat() {
            fs::write(real.join(file), text).unwrap();
        }
        fs::create_dir_all(dir.path().join("block")).unwrap();
        std::os::unix::fs::symlink(&real, dir.path().join("block").join(name)).unwrap();
    };
    add("vda", "virtio0", &[("serial", "V1\n"), ("queue/rotational", "1\n")]);
    add("nvme0n1", "pci", &[("device/serial", "N1   \n"), ("wwid", "eui.1\n")]);
    add("sda", "ata", &[("device/vpd_pg80", "\0\0\0\u{8}  S1")]);
    add("sdb", "pci/usb1/1-1", &[]);
    add("sdc", "ata", &[("removable", "1\n")]);
    add("sdd", "ata", &[("size", "0\n")]);
    add("sr0", "ata", &[]);
    add("loop0", "virtual", &[]);
    add("mmcblk0boot0", "mmc", &[]);
    let found = fixed(dir.path());
    let names: Vec<_> = found.iter().map(|disk| (disk.name.as_str(), disk.serial.as_str())).collect();
    assert_eq!(names, [("nvme0n1", "N1"), ("sda", "S1"), ("vda", "V1")]);
    assert_eq!((found[2].size, found[2].rotational, found[0].wwn.as_str()), (1 << 20, true, "eui.1"));
}

#[test]
fn a_controller_without_its_driver_is_named() {
    let dir = tempfile::tempdir().unwrap();
    for (place, class, has_driver) in [
        ("0000:00:01.0", "0x010802", true),
        ("0000:00:02.0", "0x010400", false),
        ("0000:00:03.0", "0x020000", false),
    ] {
        let device = dir.path().join("bus/pci/devices").join(place);
        fs::create_dir_all(&device).unwrap();
        for (file, text) in [("class", class), ("vendor", "0x1000"), ("device", "0x0016")] {
            fs::write(device.join(file), format!("{text}\n")).unwrap();
        }
        if has_driver {
            fs::create_dir(device.join("driver")).unwrap();
        }
    }
    assert_eq!(controllers_without_driver(dir.path()), ["0000:00:02.0 (1000:0016)"]);
}

#[test]
fn an_image_goes_to_the_only_disk_or_to_the_one_that_is_named() {
    let two = [disk("sda", "A"), disk("sdb", "B")];
    assert_eq!(choose(&two[..1], None).unwrap().name, "sda");
    assert_eq!(choose(&two, Some("B")).unwrap().name, "sdb");
    assert_eq!(choose(&two, Some("sda")).unwrap().serial, "A");
    for (disks, wanted) in [(&two[..], None), (&two, Some("C")), (&[], None)] {
        assert!(choose(disks, wanted).is_err());
    }
    assert!(choose(&[disk("sda", "A"), disk("sdb", "A")], Some("A")).is_err());
}
