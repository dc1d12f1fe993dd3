//! The workspace, as cargo describes it.

use std::{env, path::PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::cmd::Cmd;

/// The workspace's places and the tests of `boot-tests`.
pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
    pub(crate) target: PathBuf,
    /// Names of the integration test binaries of `boot-tests`.
    pub(crate) root_tests: Vec<String>,
}

impl Workspace {
    /// Asks cargo and makes the workspace's root the working directory.
    pub(crate) fn enter() -> Result<Self> {
        let text = Cmd::line("cargo metadata --no-deps --format-version 1").read()?;
        let ws = Self::parse(&text).context("the answer of `cargo metadata`")?;
        env::set_current_dir(&ws.root).with_context(|| format!("enter {}", ws.root.display()))?;
        Ok(ws)
    }

    fn parse(metadata: &str) -> Result<Self> {
        let all: Value = serde_json::from_str(metadata)?;
        let path = |key: &str| all[key].as_str().map(PathBuf::from).with_context(|| format!("no {key}"));
        let packages = all["packages"].as_array().into_iter().flatten();
        let root_tests = packages
            .filter(|package| package["name"] == "boot-tests")
            .flat_map(|package| package["targets"].as_array().into_iter().flatten())
            .filter(|target| target["kind"][0] == "test")
            .filter_map(|target| target["name"].as_str().map(String::from));
        Ok(Self {
            root: path("workspace_root")?,
            target: path("target_directory")?,
            root_tests: root_tests.collect(),
        })
    }

    /// A binary of the release build.
    pub(crate) fn release(&self, name: &str) -> String {
        self.target.join("release").join(name).to_string_lossy().into_owned()
    }

    /// The directory of the kernel that firmware tests boot.
    pub(crate) fn guest(&self) -> PathBuf {
        self.target.join("guest")
    }

    /// The directory of the servers that xpxe is measured beside.
    pub(crate) fn peers(&self) -> PathBuf {
        self.target.join("peers")
    }

    /// The directory that nginx is unpacked in.
    pub(crate) fn nginx(&self) -> PathBuf {
        self.target.join("nginx")
    }

    /// The directory of the programs that tests try documents with.
    pub(crate) fn readers(&self) -> PathBuf {
        self.target.join("readers")
    }

    /// The directory of an emulator of BMCs.
    pub(crate) fn sushy(&self) -> PathBuf {
        self.target.join("sushy")
    }

    /// The directory of the program that compares the API with its document.
    pub(crate) fn schemathesis(&self) -> PathBuf {
        self.target.join("schemathesis")
    }

    /// The directory of the kernels that the fast path is tried on.
    pub(crate) fn kernels(&self) -> PathBuf {
        self.target.join("kernels")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_places_and_the_root_tests() {
        let metadata = r#"{
            "workspace_root": "/w", "target_directory": "/t", "packages": [
                {"name": "boot-tests", "targets": [
                    {"kind": ["lib"], "name": "boot_tests"}, {"kind": ["test"], "name": "firmware"},
                    {"kind": ["bin"], "name": "xpxe-demo"}, {"kind": ["test"], "name": "rack"}]},
                {"name": "other", "targets": [{"kind": ["test"], "name": "not-ours"}]}]}"#;
        let ws = Workspace::parse(metadata).unwrap();
        assert_eq!(ws.root_tests, ["firmware", "rack"]);
        assert_eq!(ws.release("xpxe"), "/t/release/xpxe");
        assert_eq!(ws.guest(), PathBuf::from("/t/guest"));
        assert!(Workspace::parse("{}").is_err());
    }
}
