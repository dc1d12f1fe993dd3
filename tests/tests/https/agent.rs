//! What the agent knows this server by, with a client that pins keys in the same way.

use boot_tests::dhcp_client::{Client, mac};
use boot_tests::place::{Place, known};
use boot_tests::settings::Settings;

use super::links::get;
use super::*;

const NODE: &str = "02:77:00:00:00:e9";

#[test]
fn by_https_the_agent_is_told_the_address_and_the_key_of_the_server() -> Result<()> {
    let Some(place) = Place::build(&Settings { fast_path: "off", ..known() })? else { return Ok(()) };
    let authority = Authority::new(place.rack.dir())?;
    let Pair { certificate, key } = authority.issue("server", "DNS:boot.test", Key::Ec)?;
    let profile = "[[profile]]\nname = \"agent\"\nkernel = \"agent/vmlinuz\"\n\
        args = \"xpxe.agent={{ agent }} xpxe.key={{ agent_key }} end\"\n";
    let tls = format!(
        "[http]\ntls = {{ listen = \"0.0.0.0:8443\", certificate = {certificate:?}, key = {key:?} }}\n"
    );
    let discover =
        "[default]\nprofile = \"guest\"\nunknown = \"discover\"\n[lifecycle]\ndiscovery = \"agent\"\n";
    let config = place.config.replace("[default]\nprofile = \"guest\"\n", discover);
    let config = config.replace("[http]\n", &tls) + profile;
    let xpxe = boot_tests::daemon::Xpxe::start(&place.rack, &config, &[])?;
    let file = place.rack.dir().join("xpxe.toml").display().to_string();
    xpxe.command(&["machines", "add", "--name", "node9", "--mac", NODE, "--config", &file])?;
    let address = place.client()?.lease(&Client::firmware(mac(NODE)?, 7))?.address();
    let node = place.rack.neighbour("node", NODE, &format!("{address}/24"))?;
    let path = format!("/ipxe/boot.ipxe?mac={NODE}");
    let plain = get(&node, &links::url(&path))?.1;
    ensure!(
        plain.contains("xpxe.agent=http://10.77.0.1:8080/agent/") && plain.contains("xpxe.key= end"),
        "{plain}"
    );
    // The name is in the certificate, and nobody in an initrd looks it up.
    let url = format!("https://boot.test:8443{path}");
    let ca = authority.certificate().display().to_string();
    let words = ["-sS", "--resolve", "boot.test:8443:10.77.0.1", "--cacert", &ca, &url];
    let script = node.output("curl", &words)?;
    let word = |before: &str| {
        let rest = script.split(before).nth(1).and_then(|rest| rest.split_whitespace().next());
        rest.map(str::to_owned).with_context(|| format!("no {before} in {script}"))
    };
    let (agent, pin) = (word("xpxe.agent=")?, word("xpxe.key=sha256:")?);
    ensure!(agent.starts_with("https://10.77.0.1:8443/agent/"), "{script}");
    let ask = |hexadecimal: &str| -> Result<String> {
        let encode =
            "import base64, sys; print(base64.b64encode(bytes.fromhex(sys.argv[1])).decode(), end='')";
        let digest = node.output("python3", &["-c", encode, hexadecimal])?;
        let pin = format!("sha256//{digest}");
        node.output("curl", &["-sS", "--insecure", "--pinnedpubkey", &pin, &format!("{agent}task")])
    };
    let task = ask(&pin)?;
    ensure!(task.contains("\"do\":\"wait\""), "{task}");
    let other = ask(&"0".repeat(64)).err().map(|error| format!("{error:#}")).unwrap_or_default();
    ensure!(other.contains("public key does not match"), "{other}");
    xpxe.stop()
}
