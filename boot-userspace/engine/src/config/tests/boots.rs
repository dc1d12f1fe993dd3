//! What a profile boots that is no kernel.

use super::*;

#[test]
fn a_profile_boots_one_kind_of_thing() {
    let config = good(&format!(
        "{BASE}[[profile]]\nname = \"esxi\"\nesxi = \"vm/esxi-8/\"\n\
         [[profile]]\nname = \"win\"\nwimboot = \"image:wimboot\"\ninitrd = [\"winpe/BCD\", \"http://h/boot.wim?x=1\"]\n\
         [[profile]]\nname = \"cd\"\niso = \"image:https://h/x.iso\"\n\
         [[profile]]\nname = \"cd2\"\ninherit = \"cd\"\nargs = \"x\"\n\
         [[profile]]\nname = \"linux\"\ninherit = \"cd\"\nkernel = \"k\"\ninitrd = [\"i\"]\narch.arm64.kernel = \"a\"\n\
         [[profile]]\nname = \"cd3\"\ninherit = \"linux\"\niso = \"x.iso\"\n\
         [[profile]]\nname = \"choice\"\nmenu = [\"win\", \"local\"]\nmenu_timeout = \"1m\"\n"
    ));
    let of = |name: &str| config.profiles.get(name).map(|profile| (profile.kind, profile.kernel.as_str()));
    assert_eq!(of("esxi"), Some((Kind::Esxi, "vm/esxi-8")));
    assert_eq!(of("win"), Some((Kind::Windows, "image:wimboot")));
    assert_eq!(of("cd"), Some((Kind::Iso, "image:https://h/x.iso")));
    assert_eq!(of("cd2"), of("cd"));
    assert_eq!(of("linux"), Some((Kind::Linux, "k")));
    let cd3 = config.profiles.get("cd3").unwrap();
    assert_eq!((cd3.kind, cd3.initrd.len(), cd3.kernel_of(Some(Arch::Arm64))), (Kind::Iso, 0, "x.iso"));
    let menu = config.profiles.get("choice").and_then(|profile| profile.menu.clone());
    let expected = Menu {
        entries: vec!["win".to_owned(), "local".to_owned()],
        default: "win".to_owned(),
        timeout: Some(Duration::from_secs(60)),
    };
    assert_eq!(menu, Some(expected));
    assert_eq!(config.profiles.get("choice").and_then(|profile| profile.first_file(None)), None);
}

#[test]
fn every_mistake_about_it_is_named() {
    bad_after_base(
        "[[profile]]\nname = \"two\"\nkernel = \"k\"\niso = \"x.iso\"\n\
         [[profile]]\nname = \"url\"\nesxi = \"http://h/esxi\"\n\
         [[profile]]\nname = \"blank\"\nesxi = \"es xi\"\n\
         [[profile]]\nname = \"files\"\nwimboot = \"wimboot\"\n\
         [[profile]]\nname = \"odd\"\nwimboot = \"wimboot\"\ninitrd = [\"a b\"]\n\
         [[profile]]\nname = \"initrd\"\niso = \"x.iso\"\ninitrd = [\"i\"]\n\
         [[profile]]\nname = \"arch\"\niso = \"x.iso\"\narch.arm64.kernel = \"k\"\n\
         [[profile]]\nname = \"lonely\"\nkernel = \"k\"\nmenu_timeout = \"5s\"\n\
         [[profile]]\nname = \"none\"\nmenu = []\n",
        &[
            (1, "profile[1]", "only one of kernel, esxi, wimboot, iso and menu"),
            (7, "profile[2].esxi", "is no directory"),
            (10, "profile[3].esxi", "characters that mboot does not take"),
            (11, "profile[4]", "Windows PE needs its files"),
            (14, "profile[5]", "has no name that wimboot takes"),
            (18, "profile[6].initrd", "goes with kernel or wimboot only"),
            (22, "profile[7]", "a kernel for an architecture, which does not go with iso"),
            (29, "profile[8].menu_timeout", "is of a menu, which is not there"),
            (30, "profile[9].menu", "write 1 to 64 names of profiles"),
        ],
    );
    bad_after_base(
        "[[profile]]\nname = \"a\"\nmenu = [\"nothing\", \"b\", \"b\"]\nmenu_default = \"c\"\nmenu_timeout = \"0s\"\n\
         [[profile]]\nname = \"b\"\nmenu = [\"local\"]\n",
        &[
            (3, "profile[1].menu[2]", "is in this menu before"),
            (3, "profile[1].menu[0]", "there is no profile \"nothing\""),
            (3, "profile[1].menu[1]", "is a menu itself"),
            (3, "profile[1].menu[2]", "is a menu itself"),
            (4, "profile[1].menu_default", "\"c\" is not in menu"),
            (5, "profile[1].menu_timeout", "is too short"),
        ],
    );
}
