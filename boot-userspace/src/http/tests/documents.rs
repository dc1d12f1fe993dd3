//! Documents as machines fetch them, and their reports.

use std::sync::Mutex;

use boot_engine::boot::script::ScriptWriter;
use boot_engine::config::{Source, TextFile, parse_files_with};
use boot_engine::events::{BootEvent, Document as End, PhoneHome, Sink};

use super::*;

const CONFIG: &str = r#"
    [http]
    fronts = ["matchbox"]
    [[interface]]
    name = "eth1"
    [[subnet]]
    cidr = "10.1.0.0/16"
    pool = ["10.1.1.33-10.1.1.40"]
    router = "10.1.0.1"
    [[profile]]
    name = "linux"
    kernel = "vmlinuz"
    args = "s={{ documents }}"
    [profile.documents]
    user-data = "user-data"
    ignition = "ignition"
    generic = "generic"
    [default]
    profile = "linux"
    [[group]]
    name = "arm"
    match = { arch = "arm64", serial = "CZ-17" }
    documents = { user-data = "arm" }
    [[machine]]
    mac = "52:54:00:00:00:01"
    name = "node1"
    labels = { role = "worker" }
    [[machine]]
    mac = "52:54:00:00:00:02"
    labels = { role = "db" }
    documents = { user-data = "own" }
"#;

const FILES: [(&str, &str); 5] = [
    (
        "user-data",
        "#cloud-config\nhostname: {{ machine.name }}\nrole: {{ machine.labels.role }}\nrouter: {{ network.router }}\n\
         phone_home: {url: '{{ phone_home }}'}\n",
    ),
    (
        "arm",
        "#cloud-config\nserial: {{ machine.serial }}\nuuid: {{ machine.uuid | default('none') }}\nargs: '{{ args }}'\n",
    ),
    ("own", "#!/bin/sh\necho {{ machine.mac }}\n"),
    ("generic", "# {{ machine.name }}\nROLE={{ machine.labels.role }}\n"),
    ("ignition", "{\"ignition\": {\"version\": \"3.3.0\"}}\n"),
];

#[derive(Default)]
struct Heard(Mutex<Vec<BootEvent>>);

impl Sink for Heard {
    fn emit(&self, event: BootEvent) {
        self.0.lock().unwrap().push(event);
    }
}

impl Heard {
    fn last(&self) -> BootEvent {
        self.0.lock().unwrap().last().expect("an event").clone()
    }
}

async fn rig_of_documents() -> (Rig, Arc<Heard>) {
    let read = |name: &str| {
        let (_, text) = FILES.iter().find(|(file, _)| *file == name).unwrap();
        Ok(TextFile { name: name.to_owned(), text: (*text).to_owned() })
    };
    let source = Source { name: "test".to_owned(), bytes: CONFIG.into() };
    let config = parse_files_with(&[source], &read).unwrap();
    let machines = Machines::new(config.machines.iter().cloned()).unwrap();
    let heard = Arc::<Heard>::default();
    let scripts = Arc::new(ScriptWriter::new(config).unwrap());
    (rig_with(scripts, machines, Arc::clone(&heard) as Events).await, heard)
}

impl Rig {
    /// As a proxy that is believed sends it on.
    async fn from(&self, request: &str) -> Answer {
        self.ask(&format!("{request}\nX-Forwarded-For: 10.1.1.40")).await
    }

    async fn text(&self, request: &str) -> (u16, String) {
        let answer = self.from(request).await;
        (answer.status, String::from_utf8(answer.body).unwrap())
    }
}

const NODE1: &str = "52-54-00-00-00-01";

#[tokio::test]
async fn each_machine_has_its_own_documents() {
    let (rig, heard) = rig_of_documents().await;
    let at = rig.address;
    let user_data = format!(
        "#cloud-config\nhostname: node1\nrole: worker\nrouter: 10.1.0.1\nphone_home: {{url: 'http://{at}/phone-home?mac={NODE1}'}}\n"
    );
    assert_eq!(rig.text(&format!("GET /documents/{NODE1}/user-data")).await, (200, user_data.clone()));
    assert!(
        matches!(heard.last().step, Step::Document { end: End::Sent { bytes }, .. } if bytes == user_data.len())
    );
    let head = rig.from(&format!("HEAD /documents/{NODE1}/user-data")).await;
    assert_eq!(head.header("content-length"), user_data.len().to_string());
    assert_eq!(head.header("cache-control"), "no-store");
    // What cloud-init asks for beside it.
    let meta_data = "instance-id: \"i-52-54-00-00-00-01\"\nlocal-hostname: \"node1\"\n".to_owned();
    assert_eq!(rig.text(&format!("GET /documents/{NODE1}/meta-data")).await, (200, meta_data));
    assert_eq!(rig.text(&format!("GET /documents/{NODE1}/vendor-data")).await, (200, String::new()));
    let (status, why) = rig.text(&format!("GET /documents/{NODE1}/preseed")).await;
    assert!(status == 404 && why.contains("there is no preseed for 52:54:00:00:00:01"), "{why}");
    let own = rig.text("GET /documents/52-54-00-00-00-02/user-data").await;
    assert_eq!(own, (200, "#!/bin/sh\necho 52:54:00:00:00:02\n".to_owned()));
    let ignition = rig.from("GET /documents/52-54-00-00-00-09/ignition").await;
    assert_eq!((ignition.status, ignition.header("content-type")), (200, "application/json"));
    // As matchbox's clients ask, by the six values of its first script.
    let query = format!("uuid=&mac={NODE1}&domain=&hostname=&serial=&arch=x86_64");
    let generic = rig.text(&format!("GET /generic?{query}")).await;
    assert_eq!(generic, (200, "# node1\nROLE=worker\n".to_owned()));
    assert_eq!(rig.text("GET /").await, (200, "matchbox\n".to_owned()));
    // What iPXE said in the URL counts for groups and templates, and is a word.
    let (_, arm) = rig.text(&format!("GET /documents/{NODE1},arm64,CZ-17/user-data")).await;
    assert_eq!(
        arm,
        format!(
            "#cloud-config\nserial: CZ-17\nuuid: none\nargs: 's=http://{at}/documents/{NODE1},arm64,CZ-17/'\n"
        )
    );
    // A stranger has no labels.
    let (status, why) = rig.text("GET /documents/52-54-00-00-00-09/user-data").await;
    assert!(
        status == 500
            && why.starts_with(
                "user-data of 52:54:00:00:00:09 cannot be written: user-data:3: undefined value"
            ),
        "{why}"
    );
    for nobody in ["GET /documents/node1/user-data", "GET /documents/%00/user-data"] {
        assert_eq!(rig.ask(nobody).await.status, 404, "{nobody}");
    }
}

#[tokio::test]
async fn documents_and_reports_are_the_machine_s_own() {
    let (rig, heard) = rig_of_documents().await;
    let mac: Mac = "52:54:00:00:00:01".parse().unwrap();
    rig.site.machines.put(Ipv4Addr::new(10, 1, 1, 9), mac);
    for request in [
        format!("GET /documents/{NODE1}/user-data"),
        format!("GET /documents/{NODE1}/meta-data"),
        format!("GET /phone-home?mac={NODE1}&status=success"),
    ] {
        let (status, text) = rig.text(&request).await;
        assert_eq!(status, 403, "{request}");
        assert!(!text.contains("worker") && !text.contains("10.1.1.9"), "{text}");
        let event = heard.last();
        let address = match event.step {
            Step::Document { end: End::None(NoDocument::OfAnother { address, .. }), .. }
            | Step::PhoneHome(_, PhoneHome::OfAnother { address, .. }) => address,
            step => panic!("{step:?}"),
        };
        assert_eq!(address, Ipv4Addr::new(10, 1, 1, 9));
    }
    // By its address alone it is the machine that has it.
    rig.site.machines.put(Ipv4Addr::new(10, 1, 1, 40), mac);
    let (status, text) = rig.text("GET /documents/self/user-data").await;
    assert!(status == 200 && text.contains("hostname: node1"), "{text}");
    assert_eq!(rig.text("GET /phone-home?status=success").await, (200, "ok\n".to_owned()));
    let event = heard.last();
    assert_eq!(event.machine.map(|machine| machine.mac), Some(mac));
}

#[tokio::test]
async fn a_machine_phones_home() {
    let (rig, heard) = rig_of_documents().await;
    let said = || match heard.last().step {
        Step::PhoneHome(_, said) => said,
        step => panic!("{step:?}"),
    };
    // As cloud-init does.
    let form = "pub_key_rsa=ssh-rsa+AAAA%2B&instance_id=i-52-54-00-00-00-01&hostname=node1&fqdn=node1.mtl";
    let post = async |form: &str| {
        let mut stream = TcpStream::connect(rig.address).await.unwrap();
        let head = format!(
            "POST /phone-home?mac={NODE1} HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n",
            form.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        // It may be refused before its end.
        stream.write_all(form.as_bytes()).await.ok();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    };
    assert_eq!(post(form).await, "HTTP/1.1 200");
    assert_eq!(said(), PhoneHome::Success("instance i-52-54-00-00-00-01, node1.mtl".to_owned()));
    // As iPXE can.
    let query = format!("mac={NODE1}&status=failure&text=no%20kernel%0a%1b[31m%e2%80%ae");
    assert_eq!(rig.ask(&format!("GET /phone-home?{query}")).await.status, 200);
    assert_eq!(said(), PhoneHome::Failure("no kernel__[31m_".to_owned()));
    let long = "x".repeat(5000);
    assert_eq!(rig.ask(&format!("GET /phone-home?mac={NODE1}&text={long}")).await.status, 200);
    assert!(matches!(said(), PhoneHome::Success(text) if text.len() == 255));
    assert_eq!(rig.ask("GET /phone-home?status=perhaps").await.status, 400);
    assert_eq!(post(&format!("text={}", "x".repeat(100_000))).await, "HTTP/1.1 413");
}
