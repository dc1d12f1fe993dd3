//! What the agent asks and says, with the token of its boot and without.

use std::sync::Mutex;

use boot_engine::boot::script::ScriptWriter;
use boot_engine::config::{DiskImage, Machine as Described, parse};
use boot_engine::events::{BootEvent, Document, Sink};
use boot_engine::lifecycle::{Observed, State as Stage};
use boot_engine::machines::Life;
use tokio::sync::mpsc;

use super::*;
use crate::daemon::request::{RegistryAsk, RegistryHandle};

const CONFIG: &str = r#"
    [[interface]]
    name = "eth1"
    [[subnet]]
    cidr = "10.1.0.0/16"
    pool = ["10.1.1.33-10.1.1.60"]
    [[profile]]
    name = "linux"
    kernel = "vmlinuz"
    args = "own {{ agent }} home={{ phone_home }}"
    [[profile]]
    name = "agent"
    kernel = "agent/vmlinuz"
    args = "xpxe.agent={{ agent }}"
    [default]
    profile = "linux"
    [lifecycle]
    agent = "agent"
    [agent]
    wipe = "overwrite"
    then = "power-off"
"#;
const NODE1: &str = "52-54-00-00-00-01";
const ADDRESS: &str = "10.1.1.50";

struct Agents {
    _dir: tempfile::TempDir,
    address: SocketAddr,
    heard: mpsc::Receiver<RegistryAsk>,
    inventories: Arc<Pace>,
    machines: Machines,
    refused: Arc<Refused>,
}

/// Why requests were refused, with their paths.
#[derive(Debug, Default)]
struct Refused(Mutex<Vec<(String, String)>>);

impl Sink for Refused {
    fn emit(&self, event: BootEvent) {
        if let Step::Document { path, end: Document::None(why), .. } = event.step {
            self.0.lock().unwrap().push((path, why.to_string()));
        }
    }
}

impl Agents {
    /// A machine of the registry in this state.
    async fn new(state: Stage, image: Option<DiskImage>, is_written: bool) -> Self {
        let machines = Machines::default();
        let machine = Described {
            macs: vec![NODE1.parse().unwrap()],
            image: image.map(Box::new),
            ..Described::default()
        };
        let (says, since, is_overdue, run, is_unserved) = ("a test".into(), 0, false, 1, false);
        let (record, heard, is_chosen) = (7, 0, false);
        let life =
            Life { record, state, says, is_written, since, is_overdue, run, is_unserved, heard, is_chosen };
        machines.put_alive(None, Arc::new(machine), life).unwrap();
        machines.put(ADDRESS.parse().unwrap(), NODE1.parse().unwrap());
        machines.put(Ipv4Addr::new(10, 1, 1, 51), "52:54:00:00:00:02".parse().unwrap());
        let scripts = Arc::new(ScriptWriter::new(parse(CONFIG, "test").unwrap()).unwrap());
        let (registry, heard) = RegistryHandle::new();
        let refused = Arc::new(Refused::default());
        let Rig { dir, site, .. } = rig_with(scripts, machines.clone(), Arc::clone(&refused) as Events).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let inventories = Arc::clone(&site.inventories);
        let routes = router(Site { registry, ..site });
        let settings = Config::empty().http;
        tokio::spawn(async move { serve(listener, routes, &settings, Arc::default(), Arc::new(())).await });
        Self { _dir: dir, address, heard, inventories, machines, refused }
    }

    /// The machine has become this since.
    fn become_state(&self, state: Stage, since: u64) {
        let mac = NODE1.parse().unwrap();
        let known = self.machines.by_mac(mac).unwrap();
        let life = Life { state, since, ..known.life.unwrap() };
        self.machines.put_alive(Some(known.id), known.machine, life).unwrap();
    }

    async fn ask(&self, from: &str, request: &str, body: &str) -> (u16, String) {
        let answer = self.ask_whole(from, request, body).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
        (head.split(' ').nth(1).map_or(0, |status| status.parse().unwrap()), body.to_owned())
    }

    /// The answer with its head.
    async fn ask_whole(&self, from: &str, request: &str, body: &str) -> String {
        let kind =
            if body.starts_with('{') { "application/json" } else { "application/x-www-form-urlencoded" };
        let length = body.len();
        let request = format!(
            "{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Forwarded-For: {from}\r\nContent-Type: {kind}\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        );
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let mut answer = Vec::new();
        // Who is told that it is too much may be cut off before it has sent all.
        drop(stream.write_all(request.as_bytes()).await);
        drop(stream.read_to_end(&mut answer).await);
        String::from_utf8(answer).unwrap()
    }

    /// The path below which the agent of this boot asks.
    async fn boot(&self) -> String {
        let (_, script) = self.ask(ADDRESS, &format!("GET /ipxe/boot.ipxe?mac={NODE1}"), "").await;
        let at = script.find("xpxe.agent=http://").unwrap_or_else(|| panic!("no agent in {script}"));
        let url = script[at..].split([' ', '\n']).next().unwrap();
        assert!(url.contains("/t-"), "{url}");
        url[url.find("/agent/").unwrap()..].to_owned()
    }

    /// What is observed of the machine; each is taken.
    fn take(mut heard: mpsc::Receiver<RegistryAsk>) -> mpsc::UnboundedReceiver<String> {
        let (told, tells) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some(ask) = heard.recv().await {
                let text = match ask {
                    RegistryAsk::Observed(7, observed, reply) => {
                        reply.send(Ok(())).unwrap();
                        match observed {
                            Observed::Agent(said) => format!("agent {said:?}"),
                            Observed::Image(said) => format!("image {said:?}"),
                            other => format!("{other:?}"),
                        }
                    }
                    RegistryAsk::Inventory(7, inventory, reply) => {
                        reply.send(Ok(())).unwrap();
                        format!("inventory {} {:?}", inventory.taken > 0, inventory.disks[0].serial)
                    }
                    RegistryAsk::Progress(7, progress) => {
                        format!("{:?} {:?}", progress.text, progress.percent())
                    }
                    other => format!("{other:?}"),
                };
                told.send(text).ok();
            }
        });
        tells
    }
}

fn image() -> Option<DiskImage> {
    Some(DiskImage { url: "disk.img".to_owned(), sha256: "A".repeat(64), disk: None })
}

#[tokio::test]
async fn the_state_says_what_the_agent_does() {
    for (state, image, is_written, says) in [
        (Stage::Accepted, None, false, "{\"do\":\"wipe\",\"method\":\"overwrite\",\"then\":\"power-off\"}"),
        (Stage::Released, image(), true, "{\"do\":\"wipe\","),
        (Stage::Installing, image(), false, "/files/disk.img\",\"sha256\":\"aaaa"),
        (Stage::Allocated, image(), false, "{\"do\":\"write\",\"url\":\"http://"),
    ] {
        let mut agents = Agents::new(state, image, is_written).await;
        let tells = std::mem::replace(&mut agents.heard, mpsc::channel(1).1);
        let mut tells = Agents::take(tells);
        let at = agents.boot().await;
        let (status, task) = agents.ask(ADDRESS, &format!("GET {at}task"), "").await;
        assert!(status == 200 && task.contains(says), "{state}: {status} {task}");
        // From then on it is being installed.
        let observed = tells.try_recv().ok();
        assert_eq!(observed.as_deref() == Some("Kernel"), state == Stage::Allocated, "{state}: {observed:?}");
    }
    // Who has its image boots from there.
    let agents = Agents::new(Stage::Installing, image(), true).await;
    let (_, script) = agents.ask(ADDRESS, &format!("GET /ipxe/boot.ipxe?mac={NODE1}"), "").await;
    assert!(script.contains("is on its disk") && script.contains("exit 1"), "{script}");
}

#[tokio::test]
async fn what_the_agent_says_is_stored_and_without_its_token_nothing_is() {
    let mut agents = Agents::new(Stage::Released, None, false).await;
    let tells = std::mem::replace(&mut agents.heard, mpsc::channel(1).1);
    let mut tells = Agents::take(tells);
    let at = agents.boot().await;
    let inventory = "{\"schema\":1,\"disks\":[{\"serial\":\"S1\"}]}";
    for (request, body, expected) in [
        (format!("POST {at}inventory"), inventory, "inventory true \"S1\""),
        (format!("POST {at}progress"), "{\"text\":\"wiping\",\"done\":1,\"of\":2}", "\"wiping\" Some(50)"),
        (format!("POST {at}report"), "task=wipe&status=success&text=two%20disks", "agent Ok(\"two disks\")"),
        (format!("GET {at}report?status=failure&text=no"), "", "agent Err(\"no\")"),
        (format!("POST {at}report"), "task=write&status=success", "image Ok(\"\")"),
    ] {
        let (status, answer) = agents.ask(ADDRESS, &request, body).await;
        assert_eq!((status, answer.as_str()), (200, "ok\n"), "{request}");
        assert_eq!(tells.recv().await.as_deref(), Some(expected), "{request}");
    }
    let forged = format!("{}t-{}/", &at[..at.find("t-").unwrap()], "0".repeat(32));
    for (from, request, status) in [
        (ADDRESS, "GET /agent/report?status=success".to_owned(), 403),
        (ADDRESS, format!("GET /agent/{NODE1}/report?status=success"), 403),
        (ADDRESS, format!("GET {forged}report?status=success"), 403),
        // The token is this machine's, from its address only.
        ("10.1.1.51", format!("GET {at}report?status=success"), 403),
        (ADDRESS, format!("GET {}report", at.replace(NODE1, "52-54-00-00-00-02")), 403),
        (ADDRESS, format!("GET {at}report?status=maybe"), 400),
        (ADDRESS, format!("GET {at}report?task=run"), 400),
        (ADDRESS, format!("GET {at}command"), 404),
    ] {
        let (got, answer) = agents.ask(from, &request, "").await;
        assert_eq!(got, status, "{from} {request}: {answer}");
    }
    for body in ["{\"schema\":2}", "{", "{\"schema\":1,\"disks\":7}"] {
        let (status, answer) = agents.ask(ADDRESS, &format!("POST {at}inventory"), body).await;
        assert_eq!(status, 400, "{body}: {answer}");
    }
    let (status, _) = agents
        .ask(ADDRESS, &format!("POST {at}inventory"), &format!("{{\"x\":\"{}\"}}", "x".repeat(600_000)))
        .await;
    assert_eq!(status, 413);
    assert!(tells.try_recv().is_err(), "nothing of it is told");
    // The next boot's token ends this one's.
    let next = agents.boot().await;
    assert_ne!(next, at);
    assert_eq!(agents.ask(ADDRESS, &format!("GET {at}task"), "").await.0, 403);
    assert_eq!(agents.ask(ADDRESS, &format!("GET {next}task"), "").await.0, 200);
}

#[tokio::test]
async fn a_report_that_comes_again_is_not_taken_for_that_of_a_later_order() {
    let mut agents = Agents::new(Stage::Accepted, None, false).await;
    let tells = std::mem::replace(&mut agents.heard, mpsc::channel(1).1);
    let mut tells = Agents::take(tells);
    let at = agents.boot().await;
    let report = format!("GET {at}report?task=wipe&status=success");
    assert_eq!(agents.ask(ADDRESS, &report, "").await.0, 200);
    assert_eq!(tells.recv().await.as_deref(), Some("agent Ok(\"\")"));
    agents.become_state(Stage::Ready, 1);
    assert_eq!(agents.ask(ADDRESS, &report, "").await.0, 200, "the answer was lost");
    assert_eq!(tells.recv().await.as_deref(), Some("agent Ok(\"\")"));
    agents.become_state(Stage::Released, 2);
    let (status, said) = agents.ask(ADDRESS, &report, "").await;
    assert!(status == 403 && said.starts_with("this reports other work"), "{status} {said}");
    assert!(tells.try_recv().is_err(), "nothing of it is told");
    assert_eq!(agents.ask(ADDRESS, &format!("GET {at}task"), "").await.0, 200);
    assert_eq!(agents.ask(ADDRESS, &report, "").await.0, 200, "it was told to wipe again");
}

#[tokio::test]
async fn an_agent_that_is_refused_is_told_without_its_token() {
    let mut agents = Agents::new(Stage::Released, None, false).await;
    let _tells = Agents::take(std::mem::replace(&mut agents.heard, mpsc::channel(1).1));
    let at = agents.boot().await;
    let forged = format!("{}t-{}/", &at[..at.find("t-").unwrap()], "0".repeat(32));
    for what in ["GET task", "POST progress", "POST inventory", "GET report?status=success"] {
        let (method, what) = what.split_once(' ').unwrap();
        assert_eq!(agents.ask(ADDRESS, &format!("{method} {forged}{what}"), "").await.0, 403);
        let (path, why) = agents.refused.0.lock().unwrap().pop().unwrap();
        let hidden = at[..at.find("t-").unwrap()].to_owned() + "t-…/";
        assert_eq!(path.strip_prefix(&*hidden), what.split('?').next(), "{path}");
        assert!(why.starts_with("the token in the URL is not valid"), "{why}");
    }
}

#[tokio::test]
async fn inventories_of_one_machine_are_read_at_its_pace() {
    let mut agents = Agents::new(Stage::Released, None, false).await;
    let tells = std::mem::replace(&mut agents.heard, mpsc::channel(1).1);
    let mut tells = Agents::take(tells);
    let at = agents.boot().await;
    let body = "{\"schema\":1,\"disks\":[{\"serial\":\"S1\"}]}";
    let mut answers = Vec::new();
    for _ in 0..10 {
        answers.push(agents.ask_whole(ADDRESS, &format!("POST {at}inventory"), body).await);
    }
    let (read, refused) = answers.split_at(8);
    assert!(read.iter().all(|answer| answer.starts_with("HTTP/1.1 200 ")), "{read:?}");
    for answer in refused {
        assert!(answer.starts_with("HTTP/1.1 429 ") && answer.contains("\r\nRetry-After: 1"), "{answer}");
        assert!(answer.contains("send it again in 1"), "{answer}");
    }
    let mut told = 0;
    while let Ok(text) = tells.try_recv() {
        assert!(text.starts_with("inventory"), "{text}");
        told += 1;
    }
    assert_eq!(told, 8, "the others are not stored");
    assert_eq!(agents.inventories.refused(), 2);
    // A new boot's token is no way around it.
    let next = agents.boot().await;
    assert_eq!(agents.ask(ADDRESS, &format!("POST {next}inventory"), body).await.0, 429);
    assert_eq!(agents.ask(ADDRESS, &format!("GET {next}task"), "").await.0, 200, "it goes on otherwise");
}

/// The old system may say that it runs after the machine was ordered to be installed anew.
#[tokio::test]
async fn a_late_report_of_an_earlier_run_changes_nothing() {
    let mut agents = Agents::new(Stage::Allocated, None, false).await;
    let tells = std::mem::replace(&mut agents.heard, mpsc::channel(1).1);
    let mut tells = Agents::take(tells);
    let home = async || {
        let (_, script) = agents.ask(ADDRESS, &format!("GET /ipxe/boot.ipxe?mac={NODE1}"), "").await;
        let url = script.split("home=http://").nth(1).unwrap_or_else(|| panic!("{script}"));
        let url = url.split([' ', '\n']).next().unwrap();
        url[url.find("/phone-home").unwrap()..].to_owned()
    };
    let before = home().await;
    assert_eq!(before, format!("/phone-home/1?mac={NODE1}"));
    let known = agents.machines.by_mac(NODE1.parse().unwrap()).unwrap();
    let life = Life { run: 2, ..known.life.unwrap() };
    agents.machines.put_alive(Some(known.id), known.machine, life).unwrap();
    let (status, said) = agents.ask(ADDRESS, &format!("GET {before}"), "").await;
    assert!(status == 409 && said.contains("an earlier run"), "{status} {said}");
    let (status, _) = agents.ask(ADDRESS, "POST /phone-home/first", "hostname=node1").await;
    assert_eq!((status, tells.try_recv().ok()), (404, None), "nothing is observed");
    for path in [home().await, "/phone-home".to_owned()] {
        assert_eq!(agents.ask(ADDRESS, &format!("GET {path}"), "").await.0, 200, "{path}");
        assert_eq!(tells.recv().await.as_deref(), Some("Home(Ok(\"\"))"), "{path}");
    }
}

/// From another address anybody can say it of any machine, which was another one's by that, and wiped.
#[tokio::test]
async fn a_serial_number_that_somebody_has_written_is_heard_from_the_machine_itself() {
    let mut agents = Agents::new(Stage::Ready, None, false).await;
    let expected = Described { serial: Some("CZ12".to_owned()), ..Described::default() };
    let life = agents.machines.life_of(NODE1.parse().unwrap()).unwrap();
    agents.machines.put_alive(None, Arc::new(expected), Life { record: 8, ..life }).unwrap();
    let mut asks = std::mem::replace(&mut agents.heard, mpsc::channel(1).1);
    for (from, mac, serial, told) in [
        (ADDRESS, NODE1, "cz12", "serial"),
        (ADDRESS, NODE1, "CZ13", ""),
        ("10.1.1.51", NODE1, "CZ12", ""),
        ("10.1.1.99", NODE1, "CZ12", ""),
        ("10.1.1.51", "52-54-00-00-00-02", "CZ12", "serial sighted"),
        ("10.1.1.99", "52-54-00-00-00-02", "CZ12", "sighted"),
        ("10.1.1.99", "52-54-00-00-00-03", "CZ12", "sighted"),
        ("10.1.1.99", "ff-ff-ff-ff-ff-ff", "CZ12", ""),
        ("10.1.1.99", "01-00-5e-00-00-01", "CZ12", ""),
        ("10.1.1.99", "00-00-00-00-00-00", "CZ12", ""),
    ] {
        let (mut heard, said) = (Vec::new(), mac.parse::<Mac>().unwrap());
        let request = format!("GET /ipxe/boot.ipxe?mac={mac}&serial={serial}");
        let mut answer = std::pin::pin!(agents.ask(from, &request, ""));
        loop {
            tokio::select! {
                biased;
                Some(ask) = asks.recv() => heard.push(match ask {
                    RegistryAsk::Serial(of, what, reply) if of == said && &*what == serial => {
                        reply.send(()).unwrap();
                        "serial"
                    }
                    RegistryAsk::Sighted(of, None) if of == said => "sighted",
                    other => panic!("{other:?}"),
                }),
                _ = &mut answer => break,
            }
        }
        assert_eq!(heard.join(" "), told, "{from} {mac} {serial}");
    }
}
