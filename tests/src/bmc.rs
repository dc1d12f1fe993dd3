//! BMCs: one of our own that speaks Redfish and does wrong by rule, and OpenIPMI's simulator.

use std::collections::HashMap;
use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::mount::{MsFlags, mount};
use serde_json::{Value, json};

use crate::netns::{Line, Namespace, Process};

/// Who may switch machines through the BMCs in here.
pub const USER: &str = "admin";
/// With this password, which is to be found nowhere.
pub const PASSWORD: &str = "Xq7-not-in-any-log";
/// [`USER`] and [`PASSWORD`] as HTTP has them.
const BASIC: &str = "Basic YWRtaW46WHE3LW5vdC1pbi1hbnktbG9n";

/// The path of the machine.
pub const SYSTEM: &str = "/redfish/v1/Systems/1";

/// What a BMC does wrong.
#[derive(Clone, Debug)]
pub enum Fault {
    /// It answers this status.
    Status(u16),
    /// It takes so long to answer.
    Late(Duration),
    /// Its answer is this text.
    Text(&'static str),
    /// Its answer has this at this place (RFC 6901); null takes it away.
    Changed(&'static str, Value),
    /// It answers 412 unless the request has this in `If-Match`.
    Unless(&'static str),
    /// It answers 400 if the request's body has this word.
    Word(&'static str),
}

/// When it does that.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The method of the requests.
    pub method: &'static str,
    /// Where their paths begin.
    pub path: &'static str,
    /// How often.
    pub times: usize,
    /// What.
    pub fault: Fault,
}

/// A rule for all times.
pub fn always(method: &'static str, path: &'static str, fault: Fault) -> Rule {
    Rule { method, path, times: usize::MAX, fault }
}

#[derive(Debug)]
struct State {
    is_on: bool,
    boot: Option<Value>,
    rules: Vec<Rule>,
    asked: Vec<String>,
    is_dead: bool,
}

/// A BMC with Redfish over plain HTTP, which serves until it is dropped.
#[derive(Debug)]
pub struct Redfish {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Redfish {
    /// Starts it on loopback of a namespace. The machine is off.
    pub fn start(namespace: &Namespace) -> Result<Self> {
        let state = State { is_on: false, boot: None, rules: Vec::new(), asked: Vec::new(), is_dead: false };
        let state = Arc::new(Mutex::new(state));
        let serving = Arc::clone(&state);
        let address = namespace.run(|| -> Result<SocketAddr> {
            let listener = TcpListener::bind(("127.0.0.1", 0))?;
            let address = listener.local_addr()?;
            thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    if lock(&serving).is_dead {
                        return;
                    }
                    let serving = Arc::clone(&serving);
                    // Who leaves early is no error.
                    thread::spawn(move || serve(&stream, &serving).ok());
                }
            });
            Ok(address)
        })??;
        Ok(Self { address, state })
    }

    /// Its address, as `address` of `bmc` has it.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Has it do these things wrong and no others, and forget what it was asked.
    pub fn rules(&self, rules: &[Rule]) {
        let mut state = lock(&self.state);
        state.rules = rules.to_vec();
        state.asked.clear();
    }

    /// Whether the machine is on.
    pub fn is_on(&self) -> bool {
        lock(&self.state).is_on
    }

    /// Switches the machine by hand.
    pub fn press(&self, on: bool) {
        lock(&self.state).is_on = on;
    }

    /// What it was told to boot from once, since the machine was switched on last.
    pub fn boot(&self) -> Option<Value> {
        lock(&self.state).boot.clone()
    }

    /// What it was asked that changes something: method, the last word of the path, body.
    pub fn told(&self) -> Vec<String> {
        lock(&self.state).asked.iter().filter(|asked| !asked.starts_with("GET")).cloned().collect()
    }

    /// How often it was asked.
    pub fn count(&self) -> usize {
        lock(&self.state).asked.len()
    }
}

impl Drop for Redfish {
    fn drop(&mut self) {
        lock(&self.state).is_dead = true;
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A request.
struct Asked {
    method: String,
    path: String,
    headers: HashMap<String, String>,
    body: Value,
}

fn serve(stream: &TcpStream, state: &Mutex<State>) -> io::Result<()> {
    let (mut reader, mut writer) = (BufReader::new(stream), stream);
    while let Some(asked) = read(&mut reader)? {
        let rule = {
            let mut state = lock(state);
            let name = asked.path.rsplit('/').next().unwrap_or_default();
            state.asked.push(format!("{} {name} {}", asked.method, asked.body));
            let fits = |rule: &&mut Rule| {
                rule.times > 0 && rule.method == asked.method && asked.path.starts_with(rule.path)
            };
            state.rules.iter_mut().find(fits).map(|rule| {
                rule.times = rule.times.saturating_sub(1);
                rule.fault.clone()
            })
        };
        let refusal = |status: u16, why: &str| (status, json!({ "error": { "message": why } }).to_string());
        let (status, body) = match rule {
            _ if asked.headers.get("authorization").is_none_or(|basic| basic != BASIC) => {
                refusal(401, "who are you")
            }
            Some(Fault::Status(status)) => refusal(status, "a fault by rule"),
            Some(Fault::Unless(tag)) if asked.headers.get("if-match").is_none_or(|shown| shown != tag) => {
                refusal(412, "another tag")
            }
            Some(Fault::Word(word)) if asked.body.to_string().contains(word) => refusal(400, word),
            Some(Fault::Text(text)) => (200, text.to_owned()),
            Some(Fault::Changed(place, value)) => {
                let (status, mut json) = answer(&asked, &mut lock(state));
                change(&mut json, place, value);
                (status, json.to_string())
            }
            rule => {
                if let Some(Fault::Late(late)) = rule {
                    thread::sleep(late);
                }
                let (status, json) = answer(&asked, &mut lock(state));
                (status, if json.is_null() { String::new() } else { json.to_string() })
            }
        };
        write!(writer, "HTTP/1.1 {status} x\r\nETag: \"7\"\r\nContent-Length: {}\r\n\r\n{body}", body.len())?;
    }
    Ok(())
}

fn change(json: &mut Value, place: &str, value: Value) {
    let (above, name) = place.rsplit_once('/').unwrap_or(("", place));
    if let Some(object) = json.pointer_mut(above).and_then(Value::as_object_mut) {
        if value.is_null() {
            object.remove(name);
        } else {
            object.insert(name.to_owned(), value);
        }
    }
}

/// What it does if nothing is wrong.
fn answer(asked: &Asked, state: &mut State) -> (u16, Value) {
    let id = |path: &str| json!({ "@odata.id": path });
    let reset = |action: &str, path: &str, types: &[&str]| {
        json!({ format!("#{action}.Reset"): {
            "target": format!("{path}/Actions/{action}.Reset"),
            "ResetType@Redfish.AllowableValues": types,
        } })
    };
    match (asked.method.as_str(), asked.path.trim_end_matches('/')) {
        ("GET", "/redfish/v1") => {
            (200, json!({ "Systems": id("/redfish/v1/Systems"), "Managers": id("/redfish/v1/Managers") }))
        }
        ("GET", "/redfish/v1/Systems") => (200, json!({ "Members": [id(SYSTEM)] })),
        ("GET", "/redfish/v1/Managers") => (200, json!({ "Members": [id("/redfish/v1/Managers/1")] })),
        ("GET", "/redfish/v1/Managers/1") => {
            (200, json!({ "Actions": reset("Manager", "/redfish/v1/Managers/1", &["GracefulRestart"]) }))
        }
        ("GET", SYSTEM) => (
            200,
            json!({
                "Manufacturer": "None",
                "PowerState": if state.is_on { "On" } else { "Off" },
                "Actions": reset("ComputerSystem", SYSTEM, &["On", "ForceOff", "ForceRestart"]),
            }),
        ),
        ("PATCH", SYSTEM) => {
            state.boot = asked.body.get("Boot").cloned();
            (204, Value::Null)
        }
        ("POST", path) if path.ends_with("/ComputerSystem.Reset") => {
            match asked.body["ResetType"].as_str() {
                Some("On" | "ForceOn" | "ForceRestart" | "PowerCycle") => state.is_on = true,
                Some("ForceOff") => state.is_on = false,
                _ => return (400, json!({ "error": { "message": "no such type" } })),
            }
            (204, Value::Null)
        }
        ("POST", path) if path.ends_with("/Manager.Reset") => (204, Value::Null),
        _ => (404, json!({})),
    }
}

fn read(reader: &mut BufReader<&TcpStream>) -> io::Result<Option<Asked>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((key, value)) = line.trim().split_once(':') else { break };
        headers.insert(key.to_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    Ok(Some(Asked { method, path, headers, body }))
}

/// OpenIPMI's simulator of a BMC, whose machine is a file: `on` or `off`.
#[derive(Debug)]
pub struct IpmiSim {
    dir: PathBuf,
    /// The simulator.
    pub process: Process,
}

impl IpmiSim {
    /// Starts it in a namespace, with its files in a new directory. The machine is off.
    pub fn start(namespace: &Namespace, dir: &Path, address: &str, port: u16) -> Result<Self> {
        fs::create_dir_all(dir.join("state"))?;
        let shown = dir.display();
        let allowed = ["callback", "user", "operator", "admin"]
            .map(|level| format!("  allowed_auths_{level} none md2 md5 straight\n"));
        fs::write(
            dir.join("lan.conf"),
            format!(
                "name \"bmc\"\nset_working_mc 0x20\nstartlan 1\n  addr {address} {port}\n  priv_limit admin\n{}  guid a123456789abcdefa123456789abcdef\nendlan\n\
                 chassis_control \"{shown}/chassis\"\nuser 1 true \"\" \"test\" user 10 none md2 md5 straight\n\
                 user 2 true \"{USER}\" \"{PASSWORD}\" admin 10 none md2 md5 straight\n",
                allowed.concat()
            ),
        )?;
        let machine = "mc_setbmc 0x20\nmc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr\nsel_enable 0x20 1000 0x0a\nmc_enable 0x20\n";
        fs::write(dir.join("sim.emu"), machine)?;
        let hook = format!(
            "#!/bin/sh\ncd {shown}\n[ $1 = set ] && echo \"$2 $3\" >> told\ncase \"$*\" in\n\
             *'get power'*) grep -q on power && echo power:1 || echo power:0 ;;\n*'get boot'*) echo boot:none ;;\n\
             *'set power 1'* | *'set reset'*) echo on > power ;;\n*'set power 0'*) echo off > power ;;\nesac\nexit 0\n"
        );
        fs::write(dir.join("chassis"), hook)?;
        fs::set_permissions(dir.join("chassis"), fs::Permissions::from_mode(0o755))?;
        fs::write(dir.join("power"), "off\n")?;
        let mut command = namespace.command(&unpacked("ipmi_sim").display().to_string());
        let file = |name: &str| dir.join(name).display().to_string();
        command.args(["-c", &file("lan.conf"), "-f", &file("sim.emu"), "-s", &file("state"), "-n"]);
        Ok(Self { dir: dir.to_owned(), process: namespace.spawn(command)? })
    }

    /// Whether the machine is on.
    pub fn is_on(&self) -> bool {
        fs::read_to_string(self.dir.join("power")).is_ok_and(|power| power.trim() == "on")
    }

    /// Switches the machine by hand.
    pub fn press(&self, on: bool) -> Result<()> {
        Ok(fs::write(self.dir.join("power"), if on { "on\n" } else { "off\n" })?)
    }

    /// What it was told that changes something, each as `power 1` or `boot pxe`.
    pub fn told(&self) -> Vec<String> {
        let told = fs::read_to_string(self.dir.join("told")).unwrap_or_default();
        told.lines().map(str::to_owned).collect()
    }
}

fn unpacked(program: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/readers/usr/bin").join(program)
}

/// Lets xpxe find `ipmitool`, which is unpacked and not installed. The calling thread has to be in a sandbox.
pub fn provide_ipmitool() -> Result<()> {
    let (program, dir) = (unpacked("ipmitool"), Path::new("/usr/local/sbin"));
    ensure!(program.is_file(), "{} is not there: cargo xtask setup unpacks it", program.display());
    mount(Some("xpxe-test"), dir, Some("tmpfs"), MsFlags::empty(), Some("mode=755"))
        .with_context(|| format!("mount a tmpfs on {}", dir.display()))?;
    Ok(symlink(fs::canonicalize(program)?, dir.join("ipmitool"))?)
}

/// OpenStack's emulator of Redfish, with the machines of its fake driver. They change their power some seconds after they were
/// told, when somebody looks.
#[derive(Debug)]
pub struct Sushy {
    /// The emulator.
    pub process: Process,
}

impl Sushy {
    /// Where it listens.
    pub const URL: &str = "http://127.0.0.1:8011";

    /// Starts it on loopback of a namespace, with machines of these UUIDs, all of them off, and its files in a new directory.
    pub fn start(namespace: &Namespace, dir: &Path, uuids: &[&str]) -> Result<Self> {
        fs::create_dir_all(dir.join("state"))?;
        let shown = dir.display();
        let machine = |uuid: &&str| {
            format!(
                " {{'uuid': '{uuid}', 'name': '{uuid}', 'power_state': 'Off', 'external_notifier': False, 'nics': []}},\n"
            )
        };
        let machines: String = uuids.iter().map(machine).collect();
        let settings = format!(
            "SUSHY_EMULATOR_LISTEN_IP = '127.0.0.1'\nSUSHY_EMULATOR_LISTEN_PORT = 8011\nSUSHY_EMULATOR_FAKE_DRIVER = True\n\
             SUSHY_EMULATOR_STATE_DIR = '{shown}/state'\nSUSHY_EMULATOR_AUTH_FILE = '{shown}/users'\nSUSHY_EMULATOR_FAKE_SYSTEMS = [\n{machines}]\n"
        );
        fs::write(dir.join("settings.py"), settings)?;
        fs::write(dir.join("users"), format!("{USER}:{HASH}\n"))?;
        let packages = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/sushy");
        let program = packages.join("bin/sushy-emulator");
        ensure!(program.is_file(), "{} is not there: cargo xtask setup fetches it", program.display());
        let mut command = namespace.command("python3");
        command.env("PYTHONPATH", &packages).arg(program).arg("--config").arg(dir.join("settings.py"));
        let process = namespace.spawn(command)?;
        namespace.wait_for_listener(8011, Duration::from_secs(60))?;
        Ok(Self { process })
    }

    /// How often machines were told to restart, to go on, or to go off.
    pub fn resets(&self) -> usize {
        let is_one =
            |line: &&Line| line.text.contains("ComputerSystem.Reset") && line.text.contains("\" 204");
        self.process.lines().iter().filter(is_one).count()
    }

    /// What it says of a machine.
    pub fn system(&self, namespace: &Namespace, uuid: &str) -> Result<Value> {
        let url = format!("{}/redfish/v1/Systems/{uuid}", Self::URL);
        let said = namespace.output("curl", &["-sS", "-u", &format!("{USER}:{PASSWORD}"), &url])?;
        Ok(serde_json::from_str(&said)?)
    }
}

/// What bcrypt makes of [`PASSWORD`].
const HASH: &str = "$2b$04$D89LyvESnZtymAu.c8pOq.zXo5Xio5.Qhp48.als5QFyiWtwVFtUW";
