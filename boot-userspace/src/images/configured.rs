//! What a configuration says of images.

use std::collections::HashMap;

use boot_engine::boot::parameters::Table;
use boot_engine::config::{Config, Front, ImageName, ImageRef, ImageSource, Images as Settings};

/// The images of a configuration and the settings of the store, as one value: a reload replaces it.
#[derive(Debug)]
pub(super) struct Configured {
    pub(super) settings: Settings,
    /// Those that profiles name.
    pub(super) named: Vec<ImageName>,
    /// Those that profiles have by their URL.
    pub(super) sources: HashMap<ImageName, ImageSource>,
    /// Those of the profiles alone.
    of_profiles: Vec<ImageRef>,
    /// Machines boot what is written through the front for BSS, too.
    has_written: bool,
}

impl Configured {
    pub(super) fn new(config: &Config, written: &Table) -> Self {
        let of_profiles = named(config).into_iter().map(|(image, _)| image).collect();
        let has_written = config.http.fronts.contains(&Front::Bss);
        Self::of(config.images.clone(), of_profiles, has_written, written)
    }

    /// The same with other boot parameters.
    pub(super) fn with(&self, written: &Table) -> Self {
        Self::of(self.settings.clone(), self.of_profiles.clone(), self.has_written, written)
    }

    fn of(settings: Settings, of_profiles: Vec<ImageRef>, has_written: bool, written: &Table) -> Self {
        let images = written.images().filter(|_| has_written);
        let images = images.filter_map(|image| ImageRef::read(&image)?.ok());
        let named: Vec<ImageRef> = of_profiles.iter().cloned().chain(images).collect();
        let sources = named.clone().into_iter().filter_map(|image| Some((image.name, image.source?)));
        let sources = sources.collect();
        Self {
            settings,
            sources,
            named: named.into_iter().map(|image| image.name).collect(),
            of_profiles,
            has_written,
        }
    }
}

/// Every image that a configuration's profiles name, and which setting does.
#[must_use]
pub fn named(config: &Config) -> Vec<(ImageRef, String)> {
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
