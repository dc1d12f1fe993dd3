//! Texts with variables in them: own scripts, documents and kernel arguments.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;
use std::sync::Arc;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, Error, UndefinedBehavior, Value};
use serde::Serialize;

/// How many characters are taken of what a client says of itself.
const LONGEST_SAID: usize = 64;
/// How many steps a template may take: many more than one that comes to an end.
const MOST_STEPS: u64 = 1_000_000;

/// What a client says of itself, so that nothing that reads it takes it for more than a word: not iPXE, no shell, no boot
/// loader and no parser. Everything but letters, digits, `.`, `_` and `-` becomes `_`.
#[must_use]
pub fn tame(said: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    said.chars().take(LONGEST_SAID).map(|c| if is_plain(c) { c } else { '_' }).collect()
}

/// A text file that the configuration names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextFile {
    /// Its path.
    pub name: String,
    /// What is in it.
    pub text: String,
}

/// Reads a text file by its name in the configuration, or says why it cannot be read and what to do.
pub type ReadText<'r> = dyn Fn(&str) -> Result<TextFile, String> + 'r;

/// What templates say of a machine and its surroundings. What is not known is not there, and a template that names it
/// is an error.
#[derive(Clone, Debug, Serialize)]
pub struct Variables {
    /// The machine.
    pub machine: MachineVariables,
    /// Its network.
    pub network: NetworkVariables,
    /// This server.
    pub server: ServerVariables,
    /// The URL that the machine's documents are below, with a slash at its end.
    pub documents: String,
    /// The URL at which the machine says how its boot went; parameters follow behind `&`.
    pub phone_home: String,
    /// The URL below which xpxe's agent asks what to do, with a slash at its end.
    pub agent: String,
    /// What the agent knows this server by over HTTPS: `sha256:` and the digest of its public key; empty over HTTP.
    pub agent_key: String,
    /// The name of its profile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// The URL of its kernel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    /// Its initrds, in their order.
    pub initrds: Vec<Initrd>,
    /// The kernel's arguments; not there in these themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub args: Option<String>,
    /// The URL at which iPXE begins anew; in scripts only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub again: Option<String>,
}

/// `machine`
#[derive(Clone, Debug, Serialize)]
pub struct MachineVariables {
    /// Its name in the configuration, or its MAC address with hyphens, or its address.
    pub name: String,
    /// Its MAC address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// Its UUID: the configuration's, or what it says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// Its address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip: Option<Ipv4Addr>,
    /// What it says its serial number is, [tamed](tame).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// What it says its name is, [tamed](tame); not in documents.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// What it boots as, as the keys of `arch` in a profile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arch: Option<String>,
    /// Those of the configuration.
    pub labels: BTreeMap<String, String>,
}

/// `network`: that of the `[[subnet]]` that the machine's address is in.
#[derive(Clone, Debug, Default, Serialize)]
pub struct NetworkVariables {
    /// The subnet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cidr: Option<String>,
    /// Its mask.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub netmask: Option<Ipv4Addr>,
    /// The length of its prefix.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<u8>,
    /// The gateway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub router: Option<Ipv4Addr>,
    /// The name servers.
    pub dns: Vec<Ipv4Addr>,
    /// The domain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
}

/// `server`
#[derive(Clone, Debug, Serialize)]
pub struct ServerVariables {
    /// The URL of this server, without a slash at its end.
    pub url: String,
    /// The address that the machine reaches it by.
    pub address: String,
    /// The URL of the boot directory, without a slash at its end.
    pub files: String,
}

/// One of `initrds`.
#[derive(Clone, Debug, Serialize)]
pub struct Initrd {
    /// `initrd0` and so on, for `initrd=`.
    pub name: String,
    /// Its URL.
    pub url: String,
}

impl Variables {
    /// Those of a machine that templates are tried with, with these labels.
    #[must_use]
    pub fn sample(labels: BTreeMap<String, String>) -> Self {
        let address = |last| Ipv4Addr::new(192, 0, 2, last);
        let url = "http://192.0.2.1:8080";
        Self {
            machine: MachineVariables {
                name: "sample".to_owned(),
                mac: Some("52:54:00:12:34:56".to_owned()),
                uuid: Some("4c4c4544-0042-3510-8052-b4c04f4e3132".to_owned()),
                ip: Some(address(50)),
                serial: Some("SAMPLE-1".to_owned()),
                hostname: None,
                arch: Some("x64".to_owned()),
                labels,
            },
            network: NetworkVariables {
                cidr: Some("192.0.2.0/24".to_owned()),
                netmask: Some(Ipv4Addr::new(255, 255, 255, 0)),
                prefix: Some(24),
                router: Some(address(254)),
                dns: vec![address(2), address(3)],
                domain: Some("example.net".to_owned()),
            },
            server: ServerVariables {
                url: url.to_owned(),
                address: address(1).to_string(),
                files: format!("{url}/files"),
            },
            documents: format!("{url}/documents/52-54-00-12-34-56/"),
            phone_home: format!("{url}/phone-home?mac=52-54-00-12-34-56"),
            agent: format!("{url}/agent/52-54-00-12-34-56/t-00000000000000000000000000000000/"),
            agent_key: String::new(),
            profile: Some("sample".to_owned()),
            kernel: Some(format!("{url}/files/vmlinuz")),
            initrds: vec![Initrd { name: "initrd0".to_owned(), url: format!("{url}/files/initrd.img") }],
            args: Some("console=ttyS0".to_owned()),
            again: None,
        }
    }

    /// Those that kernel arguments may name.
    #[must_use]
    pub fn for_args(self) -> Self {
        let machine = MachineVariables { hostname: Some("sample".to_owned()), ..self.machine };
        Self { machine, args: None, ..self }
    }

    /// Those that scripts may name.
    #[must_use]
    pub fn for_scripts(self) -> Self {
        let machine = MachineVariables { hostname: Some("sample".to_owned()), ..self.machine };
        let again = Some(format!("{}/boot.ipxe", self.server.url));
        Self { machine, again, ..self }
    }
}

/// What is wrong with a template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{what}", place(.file.as_deref(), *.line))]
pub struct Fault {
    /// The file, if it is of one.
    pub file: Option<String>,
    /// The line in it, from 1.
    pub line: Option<usize>,
    /// What is wrong, and what to do.
    pub what: String,
}

/// Everything that is wrong with the templates of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults(pub Vec<Fault>);

impl fmt::Display for Faults {
    /// A line for each, without a newline at the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for Faults {}

fn place(file: Option<&str>, line: Option<usize>) -> String {
    match (file, line) {
        (Some(file), Some(line)) => format!("{file}:{line}: "),
        (Some(file), None) => format!("{file}: "),
        (None, _) => String::new(),
    }
}

impl Fault {
    pub(crate) fn new(file: Option<&str>, error: &Error) -> Self {
        let detail = error.detail().map_or_else(String::new, |detail| format!(": {detail}"));
        let remedy = match error.kind() {
            minijinja::ErrorKind::UndefinedError => {
                "; name a variable that there is, or write | default(\"…\") behind it"
            }
            minijinja::ErrorKind::OutOfFuel => "; shorten its loops",
            _ => "",
        };
        let what = format!("{}{detail}{remedy}", error.kind());
        Self { file: file.map(str::to_owned), line: error.line().filter(|_| file.is_some()), what }
    }
}

/// Whether a text has anything of a template in it.
#[must_use]
pub fn is_template(text: &str) -> bool {
    ["{{", "{%", "{#"].iter().any(|mark| text.contains(mark))
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    // Whatever a file is called, it says what its author wrote.
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_fuel(Some(MOST_STEPS));
    let mut syntax = SyntaxConfig::builder();
    syntax.trim_blocks(true).lstrip_blocks(true).keep_trailing_newline(true);
    if let Ok(syntax) = syntax.build() {
        environment.set_syntax(syntax);
    }
    environment
}

/// The templates of a configuration.
pub struct Templates(Environment<'static>);

impl Templates {
    /// No file: only texts.
    #[must_use]
    pub fn none() -> Self {
        Self(environment())
    }

    /// The templates in these files.
    ///
    /// # Errors
    /// Every file that is none.
    pub fn new(texts: &BTreeMap<String, Arc<str>>) -> Result<Self, Faults> {
        let mut environment = environment();
        let mut faults = Vec::new();
        for (name, text) in texts {
            if let Err(error) = environment.add_template_owned(name.clone(), text.to_string()) {
                faults.push(Fault::new(Some(name), &error));
            }
        }
        if faults.is_empty() { Ok(Self(environment)) } else { Err(Faults(faults)) }
    }

    /// What a file says of a machine.
    ///
    /// # Errors
    /// It names what is not there, or is no template of this configuration.
    pub fn render(&self, name: &str, variables: &Variables) -> Result<String, Fault> {
        let template = self.0.get_template(name).map_err(|error| Fault::new(Some(name), &error))?;
        template.render(Value::from(Serde(variables))).map_err(|error| Fault::new(Some(name), &error))
    }

    /// What a text says of a machine.
    ///
    /// # Errors
    /// It is no template, or names what is not there.
    pub fn render_text(&self, text: &str, variables: &Variables) -> Result<String, Fault> {
        if !is_template(text) {
            return Ok(text.to_owned());
        }
        let variables = Value::from(Serde(variables));
        self.0.render_str(text, variables).map_err(|error| Fault::new(None, &error))
    }
}
