//! Scripts that say what was asked.

use std::net::Ipv4Addr;
use std::sync::Arc;

use boot_engine::boot::plan::Plan;
use boot_engine::config::{Config, DocumentKind};

use crate::http::{Asked, Document, NoDocument, NoScript, Scripts};

/// Answers with what it was asked, so that a test can read it.
pub(super) struct Echo;

impl Scripts for Echo {
    fn script(&self, asked: &Asked) -> Result<String, NoScript> {
        match asked.hostname.as_deref() {
            Some("ignored") => Err(NoScript::NotForYou("not this one".to_owned())),
            Some("another") => {
                Err(NoScript::OfAnother { machine: "node1".to_owned(), address: Ipv4Addr::new(10, 1, 1, 50) })
            }
            Some("broken") => Err(NoScript::Broken("template".to_owned())),
            _ => Ok(format!("#!ipxe\n# {asked:?}\n")),
        }
    }

    fn plan(&self, asked: &Asked) -> Result<Plan, NoScript> {
        Ok(Plan::Wait(format!("{:?} {:?}", asked.mac, asked.uuid)))
    }

    fn config(&self) -> Arc<Config> {
        Arc::new(Config::empty())
    }

    fn document(&self, asked: &Asked, name: &str) -> Result<Document, NoDocument> {
        Ok(Document { kind: DocumentKind::UserData, text: format!("{name}: {asked:?}\n"), is_secret: false })
    }

    fn check_asker(&self, _: &Asked) -> Result<(), NoScript> {
        Ok(())
    }
}
