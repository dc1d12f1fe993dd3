//! What the store does, for the log.

use boot_engine::events::{BootEvent, Events, Image, Step};

use crate::host::clock;

/// Where the store's events go.
#[derive(Clone)]
pub(super) struct Happenings(pub(super) Events);

impl Happenings {
    pub(super) fn emit(&self, image: Image) {
        self.0.emit(BootEvent::new(clock::boot(), Step::Image(Box::new(image))));
    }
}
