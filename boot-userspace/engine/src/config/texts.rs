//! The text files that a configuration names, and whether they are what they are for.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::document_kind::DocumentKind;
use super::formats;
use super::report::{At, Report};
use super::template::{Fault, ReadText, Templates, Variables, is_template};
use super::value;

/// What a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// An iPXE script.
    Script,
    /// What an installer or an operating system fetches.
    Document(DocumentKind),
}

pub(super) struct Texts<'r> {
    read: &'r ReadText<'r>,
    /// By their names in the configuration: the names of the files.
    names: HashMap<String, Option<String>>,
    texts: BTreeMap<String, Arc<str>>,
    uses: Vec<(String, Use)>,
    /// Has no file: for arguments.
    inline: Templates,
    sample: Variables,
}

impl<'r> Texts<'r> {
    /// No file yet. Templates are tried with these labels.
    pub(super) fn new(labels: BTreeMap<String, String>, read: &'r ReadText<'r>) -> Self {
        Self {
            read,
            names: HashMap::new(),
            texts: BTreeMap::new(),
            uses: Vec::new(),
            inline: Templates::none(),
            sample: Variables::sample(labels),
        }
    }

    /// Kernel arguments, which may have variables.
    pub(super) fn args(&self, text: &str) -> Result<String, String> {
        self.args_with(text, &self.sample)
    }

    /// Those of a machine that has these labels.
    pub(super) fn args_of(&self, text: &str, labels: &BTreeMap<String, String>) -> Result<String, String> {
        if !is_template(text) {
            return value::args(text);
        }
        self.args_with(text, &Variables::sample(labels.clone()))
    }

    fn args_with(&self, text: &str, sample: &Variables) -> Result<String, String> {
        let args = value::args(text)?;
        if is_template(text) {
            let sample = sample.clone().for_args();
            value::args(&self.inline.render_text(text, &sample).map_err(|fault| fault.what)?)?;
        }
        Ok(args)
    }

    /// The file that is named here: its name among those of the configuration.
    pub(super) fn file(&mut self, at: &At<String>, what_for: Use, report: &mut Report<'_>) -> Option<String> {
        if !self.names.contains_key(&at.value) {
            let file = at.read(report, |name| (self.read)(name));
            let name = file.map(|file| {
                self.texts.insert(file.name.clone(), file.text.into());
                file.name
            });
            self.names.insert(at.value.clone(), name);
        }
        let name = self.names.get(&at.value)?.clone()?;
        if !self.uses.contains(&(name.clone(), what_for)) {
            self.uses.push((name.clone(), what_for));
        }
        Some(name)
    }

    /// All files by name, after each was tried.
    pub(super) fn finish(self, report: &mut Report<'_>) -> BTreeMap<String, Arc<str>> {
        match Templates::new(&self.texts) {
            Err(faults) => faults.0.into_iter().for_each(|fault| report.add_fault(fault)),
            Ok(templates) => {
                for (name, what_for) in &self.uses {
                    if let Err(fault) = self.try_out(&templates, name, *what_for) {
                        report.add_fault(fault);
                    }
                }
            }
        }
        self.texts
    }

    /// What is wrong with what a template makes, said of the template: its lines are the same if it has no more of them.
    fn of_template(
        &self,
        name: &str,
        kind: DocumentKind,
        made: &str,
        line: Option<usize>,
        what: &str,
    ) -> Fault {
        let has_as_many =
            self.texts.get(name).is_some_and(|text| text.lines().count() == made.lines().count());
        let of_made = line.filter(|_| !has_as_many);
        let of_made = of_made.and_then(|line| Some(format!(" (\"{}\")", made.lines().nth(line - 1)?.trim())));
        let what = format!("as {} it {what}{}", kind.key(), of_made.unwrap_or_default());
        Fault { file: Some(name.to_owned()), line: line.filter(|_| has_as_many), what }
    }

    fn try_out(&self, templates: &Templates, name: &str, what_for: Use) -> Result<(), Fault> {
        match what_for {
            Use::Script => {
                let text = templates.render(name, &self.sample.clone().for_scripts())?;
                if text.lines().next() == Some("#!ipxe") {
                    return Ok(());
                }
                let what = "is no iPXE script; write #!ipxe in its first line".to_owned();
                Err(Fault { file: Some(name.to_owned()), line: Some(1), what })
            }
            Use::Document(kind) => {
                let text = templates.render(name, &self.sample)?;
                formats::check(kind, &text)
                    .map_err(|(line, what)| self.of_template(name, kind, &text, line, &what))
            }
        }
    }
}
