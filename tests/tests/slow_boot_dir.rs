//! A disk with boot files that does not answer holds up those who fetch from it, and nobody else.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use boot_tests::hanging_disk::HangingDisk;
use boot_tests::netns::Process;
use boot_tests::settings::Settings;
use boot_tests::tftp_client::{Download, Padding};
use boot_tests::tftp_rack::TftpRack;
use boot_tests::wait::eventually;

const SOON: Duration = Duration::from_secs(10);
/// So long nothing comes from a disk that hangs.
const SILENCE: Duration = Duration::from_millis(300);

#[test]
fn while_the_disk_hangs_files_in_no_memory_wait_and_all_others_are_served() -> Result<()> {
    // Nothing is in memory.
    let settings = Settings { fast_path: "off", fast_path_memory: "0", ..Settings::default() };
    let Some(place) = TftpRack::build_with(settings)? else { return Ok(()) };
    place.config("off")?;
    fs::create_dir_all(place.path("slow"))?;
    let image = place.file("image", 2_000_000)?;
    let other = place.file("other", 200_000)?;
    let xpxe = place.serve()?;
    // It goes before the daemon does: no process ends that waits for its disk.
    let disk = HangingDisk::mount(&place.path("slow"), "image", image.clone())?;
    let start = |number, name| Download::start(place.caller(number, Padding::None)?, name, 1468, 8);

    let mut first = start(1, "slow/image")?;
    first.go_on_to(100_000)?;
    let mut second = start(2, "slow/image")?;
    second.go_on_to(1_000_000)?;
    disk.hang();
    eventually(SOON, "a read that waits", || {
        for download in [&mut first, &mut second] {
            while let Ok(Some(packet)) = download.caller().hear(Duration::from_millis(1)) {
                download.take(packet).ok();
            }
            download.repeat_last().ok();
        }
        disk.waiting() > 0
    })?;
    // What the kernel had read ahead may still come.
    let began = Instant::now();
    while let Some(packet) = first.caller().hear(SILENCE)? {
        first.take(packet)?;
        ensure!(began.elapsed() < SOON, "the disk does not hang");
    }
    ensure!(first.bytes().len() < image.len());

    // By HTTP, more of them than there are threads.
    let url = |name: &str| format!("http://127.0.0.1:8080/files/{name}");
    let slow: Vec<Process> = (0..8)
        .map(|_| {
            let mut curl = place.rack.server.command("curl");
            curl.args(["-sS", "-o", "/dev/null", &url("slow/image")]);
            place.rack.server.spawn(curl)
        })
        .collect::<Result<_>>()?;
    ensure!(start(3, "other")?.finish()?.bytes == other, "another file");
    let size = ["-sS", "--max-time", "5", "-o", "/dev/null", "-w", "%{size_download}", &url("other")];
    let began = Instant::now();
    while began.elapsed() < SILENCE * 3 {
        ensure!(place.rack.server.output("curl", &size)? == other.len().to_string(), "another file by HTTP");
    }
    ensure!(slow.iter().all(|curl| curl.output_ended().is_none()), "HTTP did not wait for the disk");
    ensure!(disk.waiting() > 0, "the disk answered");
    disk.answer();
    for download in [first, second] {
        ensure!(download.finish()?.bytes == image, "other bytes than the file's");
    }
    for curl in slow {
        ensure!(curl.wait(SOON)?.success(), "a download by HTTP");
    }
    xpxe.stop()
}
