//! What a configuration says of images.

use std::collections::HashMap;

use boot_engine::config::{Config, ImageName, ImageRef, ImageSource, Images as Settings};

/// The images of a configuration and the settings of the store, as one value: a reload replaces it.
#[derive(Debug)]
pub(super) struct Configured {
    pub(super) settings: Settings,
    /// Those that profiles name.
    pub(super) named: Vec<ImageName>,
    /// Those that profiles have by their URL.
    pub(super) sources: HashMap<ImageName, ImageSource>,
}

impl Configured {
    pub(super) fn new(config: &Config) -> Self {
        let named = named(config);
        let sources = named.clone().into_iter().filter_map(|(image, _)| Some((image.name, image.source?)));
        Self {
            settings: config.images.clone(),
            sources: sources.collect(),
            named: named.into_iter().map(|(image, _)| image.name).collect(),
        }
    }
}

/// Every image that a configuration names, and which setting does.
pub(super) fn named(config: &Config) -> Vec<(ImageRef, String)> {
    let mut named = Vec::new();
    let mut add = |text: &str, place: String| {
        if let Some(Ok(image)) = ImageRef::read(text) {
            named.push((image, place));
        }
    };
    for (name, profile) in &config.profiles {
        add(&profile.kernel, format!("{} of profile {name}", profile.kind.key()));
        for initrd in &profile.initrd {
            add(initrd, format!("initrd of profile {name}"));
        }
        for (arch, of) in &profile.arch {
            if let Some(kernel) = &of.kernel {
                add(kernel, format!("kernel of profile {name} on {arch}"));
            }
            for initrd in of.initrd.iter().flatten() {
                add(initrd, format!("initrd of profile {name} on {arch}"));
            }
        }
    }
    named
}
