use super::*;

fn http() -> SocketAddrV4 {
    "10.0.0.1:8080".parse().unwrap()
}

#[test]
fn ipxe_never_gets_the_loader_again() {
    for class in Class::all().filter(|class| class.stage == Stage::Ipxe) {
        let file = boot_file(class, http(), &|_| Ok("loader".to_owned())).unwrap().unwrap();
        assert_eq!(file.text(), "http://10.0.0.1:8080/boot.ipxe", "{class:?}");
    }
}

#[test]
fn http_boot_never_gets_a_tftp_name() {
    let fetches = |class: &Class| class.firmware.is_http() && class.stage != Stage::ReducedIpxe;
    for class in Class::all().filter(fetches) {
        let file = boot_file(class, http(), &|_| Ok("snponly.efi".to_owned())).unwrap().unwrap();
        assert!(matches!(file, BootFile::Url(_)), "{class:?}");
    }
}

#[test]
fn who_has_files_of_its_own_gets_no_loader() {
    let kinds = [Firmware::RaspberryPi, Firmware::UbootArm32, Firmware::UbootArm64, Firmware::PpcOpal];
    let of = |firmware| Class { firmware, stage: Stage::Rom };
    for class in kinds.map(of).into_iter().chain([Class::LOADER]) {
        let file = boot_file(class, http(), &|_| Ok("snponly.efi".to_owned())).unwrap().unwrap();
        assert_eq!((file.text(), file.describe().as_str()), ("", "its own files"), "{class:?}");
    }
}

#[test]
fn a_reduced_ipxe_gets_the_full_one_by_tftp() {
    for class in Class::all().filter(|class| class.stage == Stage::ReducedIpxe) {
        let file = boot_file(class, http(), &|_| Ok("loader".to_owned())).unwrap().unwrap();
        assert_eq!(file, BootFile::Tftp { name: "loader".to_owned(), server: None }, "{class:?}");
    }
}

#[test]
fn a_missing_loader_is_said() {
    let class = Class { firmware: Firmware::EfiArm64, stage: Stage::Rom };
    assert_eq!(boot_file(class, http(), &|_| Err("install it".to_owned())), Err("install it".to_owned()));
}
