//! URLs by which machines fetch images from S3 themselves, for upstreams with `presigned`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::{Images, Record, s3};
use boot_engine::boot::HandOut;
use boot_engine::config::ImageName;
use boot_engine::events::Image;

/// How old a signature may be that is handed out.
const SIGNED_EVERY: Duration = Duration::from_secs(60);

impl Images {
    /// The URLs of images that machines fetch from S3 themselves.
    #[must_use]
    pub fn hand_out(&self) -> Arc<HandOut> {
        self.handed_out.get()
    }

    /// Signs them anew, again and again.
    pub async fn keep_signed(self: Arc<Self>) {
        let mut told = HashMap::new();
        loop {
            self.sign(&mut told).await;
            // Another configuration says other images.
            timeout(SIGNED_EVERY, self.reconfigured.notified()).await.ok();
        }
    }

    async fn sign(&self, told: &mut HashMap<ImageName, String>) {
        let configured = self.configured.get();
        let mut signed = Vec::new();
        for name in &configured.named {
            let of_record = || Record::read(&self.layout, name).ok().flatten()?.source();
            let Some(source) = configured.sources.get(name).cloned().or_else(of_record) else { continue };
            let upstream = configured.settings.upstream(&source.url);
            let Some(valid) = upstream.and_then(|upstream| upstream.presigned) else { continue };
            match s3::locate(&source.url, upstream, valid).await {
                Ok(url) => {
                    told.remove(name);
                    signed.push((name.clone(), url.into()));
                }
                Err(error) => {
                    if told.insert(name.clone(), error.clone()).as_ref() != Some(&error) {
                        self.events.emit(Image::NotSigned { name: name.clone(), error });
                    }
                }
            }
        }
        self.handed_out.replace(signed.into_iter().collect::<HandOut>());
    }
}
