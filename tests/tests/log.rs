//! Machines boot, whatever becomes of the log.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use boot_tests::dhcp_client::{Client, mac};
use boot_tests::place::{ALICE, Place, SOON, known};
use boot_tests::settings::Settings;
use boot_tests::wait::eventually;

/// A disk that is full; a pipe that nobody reads; one whose reader has gone.
const TO: [&str; 3] = [
    r#"exec "$@" 2>/dev/full"#,
    r#"mkfifo "$0" && exec "$@" 2<>"$0""#,
    r#"exec "$@" 2> >(head -c 1 > /dev/null)"#,
];
/// What a pipe holds is a quarter of the lines for so many.
const OFFERS: usize = 800;

#[test]
fn machines_boot_though_nobody_takes_the_log() -> Result<()> {
    for to in TO {
        let Some(place) = Place::build(&Settings { fast_path: "off", ..known() })? else { return Ok(()) };
        let pipe = place.rack.dir().join("log").display().to_string();
        let xpxe = place.spawn(&["bash", "-c", to, &pipe])?;
        let ready = || {
            let asked = place.rack.server.output("curl", &["-sS", "http://127.0.0.1:8080/readyz"]);
            asked.is_ok_and(|says| says.starts_with("ready"))
        };
        eventually(SOON, "xpxe to be ready", ready).with_context(|| to.to_owned())?;
        let wire = place.client()?;
        let alice = Client::new(mac(ALICE.mac)?);
        for number in 0..OFFERS {
            wire.discover(&alice).with_context(|| format!("{to}: offer {number}"))?;
        }
        wire.lease(&alice).with_context(|| to.to_owned())?;
        ensure!(ready(), "{to}");
        // What waits for a pipe that nobody reads is lost after a second.
        xpxe.terminate(Duration::from_secs(10)).with_context(|| to.to_owned())?;
    }
    Ok(())
}
