//! Every name and URL that an answer or a script hands out is served.

use super::*;

#[test]
fn every_name_and_url_that_dhcp_hands_out_is_served() -> Result<()> {
    let with_every_loader = Files::with_loaders(BootFiles::names())?;
    let with_some = Files::with_loaders(["snponly.efi", "undionly.kpxe"].into_iter())?;
    // What this machine has installed, whatever that is.
    let system = Files::new()?;
    let bare = Files::new()?.without_system();
    for (what, files, least) in [
        ("every loader", with_every_loader, 42),
        ("x86", with_some, 18),
        ("system", system, 2),
        ("none", bare, 2),
    ] {
        let server = files.serve()?;
        for role in ROLES {
            let given = given(&files.boot_files, server, role)?;
            ensure!(given.len() >= least, "{what}: only {} answers for {role:?}", given.len());
            for (key, file) in &given {
                check_served(&files.boot_files, server, *key, file)
                    .with_context(|| format!("{what}, {role:?}, {:?}: {file}", Class::from_key(key.class)))?;
            }
        }
    }
    Ok(())
}

#[test]
fn a_class_without_a_loader_has_no_answer_and_the_reason_says_what_to_do() -> Result<()> {
    for files in [Files::new()?, Files::new()?.without_system()] {
        let server = files.serve()?;
        for role in ROLES {
            let given = given(&files.boot_files, server, role)?;
            for class in Class::all() {
                let has_answer = given.iter().any(|(key, _)| key.class == class.answered_as().key());
                let wanted = match class.stage {
                    // It looks for files of its own.
                    Stage::Rom if class.firmware.has_files_of_its_own() => false,
                    // In no table: the daemon alone answers it.
                    Stage::ReducedIpxe => false,
                    Stage::Rom => files.boot_files.loader_for(class.firmware).is_ok(),
                    Stage::Ipxe => true,
                    Stage::Os => false,
                };
                ensure!(has_answer == wanted, "{role:?} {class:?}: an answer with a boot file: {has_answer}");
            }
        }
        for firmware in Firmware::ALL.into_iter().filter(|firmware| *firmware != Firmware::None) {
            if let Err(missing) = files.boot_files.loader_for(firmware) {
                ensure!(missing == MissingLoader(firmware));
                let text = missing.to_string();
                ensure!(text.contains(firmware.name()), "{text}");
                let hints = ["package", "[ipxe]", "[[boot_file]] with arch ="];
                ensure!(hints.iter().any(|hint| text.contains(hint)), "{text}");
            }
        }
    }
    Ok(())
}

#[test]
fn the_scripts_lead_to_files_that_are_served() -> Result<()> {
    let files = Files::with_loaders(BootFiles::names())?;
    let server = files.serve()?;
    let first = String::from_utf8(fetch(server, "/boot.ipxe")?)?;
    let own = first.lines().find_map(|line| line.strip_prefix("chain ")).context("no chain line")?;
    ensure!(own.contains(&format!("http://{server}/ipxe/boot.ipxe?")), "{own}");
    let own = String::from_utf8(fetch(server, "/ipxe/boot.ipxe?mac=52-54-00-77-00-01")?)?;
    let urls: Vec<&str> =
        own.split_whitespace().filter_map(|word| word.strip_prefix(&format!("http://{server}"))).collect();
    ensure!(urls.len() >= 2, "no kernel and initrd in\n{own}");
    for path in urls {
        ensure!(!fetch(server, path)?.is_empty(), "{path}");
    }
    Ok(())
}

/// A boot directory and what is served from it.
pub(super) struct Files {
    dir: tempfile::TempDir,
    pub(super) boot_files: Arc<BootFiles>,
}

impl Files {
    fn new() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let boot_dir = dir.path().join("boot");
        fs::create_dir_all(boot_dir.join("linux"))?;
        fs::write(boot_dir.join("linux/vmlinuz"), vec![1; 70_001])?;
        fs::write(boot_dir.join("linux/initrd"), vec![2; 1_001])?;
        let boot_files = Arc::new(BootFiles::new(boot_dir, BTreeMap::new()));
        Ok(Self { dir, boot_files })
    }

    /// With loaders of different lengths in the boot directory.
    pub(super) fn with_loaders(names: impl Iterator<Item = &'static str>) -> Result<Self> {
        let files = Self::new()?.without_system();
        for (number, name) in names.enumerate() {
            fs::write(files.boot_files.boot_dir().join(name), vec![b'x'; 1_000 + number])?;
        }
        Ok(files)
    }

    fn without_system(mut self) -> Self {
        let boot_dir: PathBuf = self.dir.path().join("boot");
        self.boot_files = Arc::new(BootFiles::new(boot_dir, BTreeMap::new()).with_system_dirs(Vec::new()));
        self
    }

    /// The HTTP server on a port of its own, until the process ends.
    fn serve(&self) -> Result<SocketAddrV4> {
        let config = config::parse(CONFIG, "contract.toml")?;
        let images = Images::new(&config, Arc::new(()));
        let site = Site {
            files: Arc::clone(&self.boot_files),
            images,
            machines: Machines::default(),
            scripts: Arc::new(ScriptWriter::new(config)?),
            trusted_proxies: Arc::new([]),
            readiness: Readiness::default(),
            events: Arc::new(()),
            history: Arc::default(),
            tokens: Arc::default(),
            inventories: Arc::default(),
            registry: boot_userspace::daemon::request::RegistryHandle::none(),
            boot_parameters: boot_userspace::daemon::request::ParametersHandle::none(),
        };
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let SocketAddr::V4(address) = listener.local_addr()? else { bail!("not IPv4") };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::spawn(move || {
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener)?;
                http::serve(listener, http::router(site), &Http::default(), Arc::default(), Arc::new(()))
                    .await;
                anyhow::Ok(())
            })
        });
        Ok(address)
    }
}

/// The engine of a daemon with this role, which has just started.
pub(super) fn engine(files: &Arc<BootFiles>, server: SocketAddrV4, role: DhcpRole) -> Result<Engine> {
    let link =
        ServedLink { http: server, ..fixture::served_link("eth0", IFINDEX, OUR_MAC, "10.77.0.1/24", role)? };
    let loader =
        |firmware| files.loader_for(firmware).map(str::to_owned).map_err(|missing| missing.to_string());
    let config = config::parse(CONFIG, "contract.toml")?;
    fixture::engine(config, vec![link], loader, &[], fixture::now())
}

/// Every answer that has a boot file, and the file.
fn given(files: &Arc<BootFiles>, server: SocketAddrV4, role: DhcpRole) -> Result<Vec<(AnswerKey, String)>> {
    let mut given = Vec::new();
    for command in engine(files, server, role)?.take_commands() {
        let Command::PutAnswer(key, answer) = command else { continue };
        let message = decode(&answer)?;
        let option = match message.opts().get(OptionCode::BootfileName) {
            Some(DhcpOption::BootfileName(file)) => text(Some(file))?,
            _ => None,
        };
        let field = text(message.fname())?;
        ensure!(field == option, "{key:?}: file {field:?}, option 67 {option:?}");
        if let Some(file) = option {
            ensure!(
                file.starts_with("http://")
                    || *message.opts().get(OptionCode::TFTPServerName).context("no 66")?
                        == DhcpOption::TFTPServerName(US.to_string().into_bytes())
            );
            ensure!(message.siaddr() == US && text(message.sname())? == Some("10.77.0.1"));
            given.push((key, file.to_owned()));
        }
    }
    Ok(given)
}

/// A name without the NULs that some clients need behind it.
pub(super) fn text(name: Option<&[u8]>) -> Result<Option<&str>> {
    Ok(name.map(std::str::from_utf8).transpose()?.map(|name| name.trim_end_matches('\0')))
}

/// A prepared answer as the message it becomes.
fn decode(answer: &Answer) -> Result<Message> {
    let mut bytes = vec![2, 1, 6, 0];
    bytes.resize(BOOTP_FIXED, 0);
    bytes[20..24].copy_from_slice(&answer.siaddr);
    bytes.extend(&answer.body[..usize::from(answer.body_length)]);
    bytes.push(255);
    Ok(Message::from_bytes(&bytes)?)
}

fn check_served(files: &BootFiles, server: SocketAddrV4, key: AnswerKey, file: &str) -> Result<()> {
    let class = Class::from_key(key.class).context("no class")?;
    ensure!((class.firmware.is_http() || class.stage == Stage::Ipxe) == file.starts_with("http://"));
    if let Some(rest) = file.strip_prefix("http://") {
        let path = rest.strip_prefix(&server.to_string()).context("a URL of another server")?;
        let body = fetch(server, path)?;
        return match path.strip_prefix("/files/") {
            Some(name) => same_as_file(files, name, &body),
            None => {
                ensure!(body.starts_with(b"#!ipxe\n"));
                Ok(())
            }
        };
    }
    let body = fetch(server, &format!("/files/{file}"))?;
    same_as_file(files, file, &body)
}

fn same_as_file(files: &BootFiles, name: &str, body: &[u8]) -> Result<()> {
    let mut open = files.open(name)?;
    let mut content = Vec::new();
    open.file.read_to_end(&mut content)?;
    ensure!(open.size == u64::try_from(content.len())? && content == body, "{name} differs over HTTP");
    Ok(())
}

/// The body of a path, after HEAD and GET agreed about its length.
fn fetch(server: SocketAddrV4, path: &str) -> Result<Vec<u8>> {
    let ask = |method: &str| -> Result<(usize, Vec<u8>)> {
        let mut stream = TcpStream::connect(server)?;
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let end = answer.windows(4).position(|window| window == b"\r\n\r\n").context("no header")?;
        let head = std::str::from_utf8(&answer[..end])?.to_ascii_lowercase();
        ensure!(head.starts_with("http/1.1 200 "), "{method} {path}: {head}");
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        Ok((length.context("no Content-Length")?.parse()?, answer.split_off(end + 4)))
    };
    let (announced, nothing) = ask("HEAD")?;
    let (length, body) = ask("GET")?;
    ensure!(nothing.is_empty() && announced == length && length == body.len(), "{path}: {length}");
    Ok(body)
}
