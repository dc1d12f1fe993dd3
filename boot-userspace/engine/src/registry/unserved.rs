//! What is still known of a machine whose record does not fit the configuration.

use super::record::{Record, Spec};
use crate::config::{Config, Machine};

impl Spec {
    /// The machine of all that is right here by itself, as far as it tells who the machine is and where. Nothing says what it would
    /// boot.
    #[must_use]
    pub fn readable(&self, config: &Config) -> Machine {
        let (mut kept, mut machine) = (Self::default(), Machine::default());
        let mut keep = |part: &dyn Fn(&mut Self)| {
            let mut more = kept.clone();
            part(&mut more);
            if let Ok(checked) = more.check(config) {
                (kept, machine) = (more, checked);
            }
        };
        for mac in &self.mac {
            keep(&|spec: &mut Self| spec.mac.push(mac.clone()));
        }
        keep(&|spec: &mut Self| spec.uuid.clone_from(&self.uuid));
        keep(&|spec: &mut Self| spec.serial.clone_from(&self.serial));
        keep(&|spec: &mut Self| spec.relay_port.clone_from(&self.relay_port));
        keep(&|spec: &mut Self| spec.name.clone_from(&self.name));
        keep(&|spec: &mut Self| spec.ip.clone_from(&self.ip));
        keep(&|spec: &mut Self| spec.bmc.clone_from(&self.bmc));
        keep(&|spec: &mut Self| spec.labels.clone_from(&self.labels));
        machine
    }
}

impl Record {
    /// What is still known of the machine if what people say of it does not fit the configuration.
    #[must_use]
    pub fn readable(&self, config: &Config) -> Machine {
        Machine { inventory: self.inventory.clone(), ..self.spec.readable(config) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_the_configuration_takes_nothing_else_with_it() {
        let text = "[[interface]]\nname = 'eth1'\n[[subnet]]\ncidr = '10.1.0.0/24'\npool = ['10.1.0.100-10.1.0.200']\n";
        let config = crate::config::parse(text, "test").unwrap();
        let spec = Spec {
            name: Some("db1".to_owned()),
            mac: ["52:54:00:00:00:01", "no MAC", "52:54:00:00:00:02"].map(str::to_owned).to_vec(),
            uuid: Some("no UUID".to_owned()),
            ip: Some("10.2.0.5".to_owned()),
            profile: Some("gone".to_owned()),
            args: "{% for %}".to_owned(),
            labels: [("rack".to_owned(), "7".to_owned())].into(),
            ..Spec::default()
        };
        assert!(spec.check(&config).is_err());
        let machine = spec.readable(&config);
        assert_eq!((machine.macs.len(), machine.name.as_deref()), (2, Some("db1")));
        assert_eq!((machine.uuid, machine.ip, machine.profile.as_deref()), (None, None, None));
        assert_eq!((machine.args.as_str(), machine.labels.len()), ("", 1));
        let inside = Spec { ip: Some("10.1.0.5".to_owned()), ..spec };
        assert_eq!(inside.readable(&config).ip, Some([10, 1, 0, 5].into()));
    }
}
