//! Labels and environment variables of the container that records have besides, chosen by
//! Docker's options `labels`, `env` and their forms with regular expressions.

use std::collections::BTreeMap;

use regex::Regex;

use crate::container::Container;

/// Which option.
#[derive(Debug, Clone, Copy)]
pub(super) enum Key {
    Labels,
    LabelsRegex,
    Env,
    EnvRegex,
}

/// What is chosen.
#[derive(Debug, Clone, Default)]
pub struct Extras {
    labels: Option<String>,
    labels_regex: Option<Regex>,
    env: Option<String>,
    env_regex: Option<Regex>,
}

impl PartialEq for Extras {
    fn eq(&self, other: &Self) -> bool {
        let text = |regex: &Option<Regex>| regex.as_ref().map(|regex| regex.as_str().to_owned());
        self.labels == other.labels
            && self.env == other.env
            && text(&self.labels_regex) == text(&other.labels_regex)
            && text(&self.env_regex) == text(&other.env_regex)
    }
}

impl Eq for Extras {}

impl Extras {
    pub(super) fn take(&mut self, key: Key, text: &str) -> Result<(), &'static str> {
        let regex = || match text {
            "" => Ok(None),
            text => Regex::new(text).map(Some).map_err(|_| "a regular expression"),
        };
        let list = || Some(text.to_owned()).filter(|text| !text.is_empty());
        match key {
            Key::Labels => self.labels = list(),
            Key::LabelsRegex => self.labels_regex = regex()?,
            Key::Env => self.env = list(),
            Key::EnvRegex => self.env_regex = regex()?,
        }
        Ok(())
    }

    /// Those that `container` has. Of a variable and a label of one name it is the variable, as
    /// with Docker.
    pub fn of(&self, container: &Container) -> BTreeMap<String, String> {
        let labels = container.labels.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        let variables =
            container.environment.iter().filter_map(|variable| variable.split_once('='));
        let mut chosen =
            choose(labels.collect(), self.labels.as_deref(), self.labels_regex.as_ref());
        chosen.extend(choose(variables.collect(), self.env.as_deref(), self.env_regex.as_ref()));
        chosen
    }
}

fn choose(
    all: BTreeMap<&str, &str>,
    list: Option<&str>,
    regex: Option<&Regex>,
) -> BTreeMap<String, String> {
    let named = |key: &str| list.is_some_and(|list| list.split(',').any(|name| name == key));
    let matches = |key: &str| regex.is_some_and(|regex| regex.is_match(key));
    let chosen = all.into_iter().filter(|(key, _)| named(key) || matches(key));
    chosen.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_variables_are_chosen_as_docker_does() {
        let container = Container {
            labels: [("app", "web"), ("app.tier", "front"), ("other", "x"), ("BOTH", "label")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
            environment: ["PATH=/bin", "APP_ENV=a=b", "NOTHING", "BOTH=variable", "PATH=/sbin"]
                .map(str::to_owned)
                .into(),
            ..Container::default()
        };
        let of = |options: &[(Key, &str)]| {
            let mut extras = Extras::default();
            for (key, text) in options {
                extras.take(*key, text).unwrap();
            }
            let chosen = extras.of(&container).into_iter();
            chosen.map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>()
        };
        assert!(of(&[]).is_empty());
        assert_eq!(of(&[(Key::Labels, "app,none"), (Key::Env, "PATH")]), ["PATH=/sbin", "app=web"]);
        assert_eq!(of(&[(Key::LabelsRegex, "^app")]), ["app=web", "app.tier=front"]);
        assert_eq!(of(&[(Key::EnvRegex, "P_")]), ["APP_ENV=a=b"]);
        assert_eq!(of(&[(Key::Labels, "BOTH"), (Key::Env, "BOTH")]), ["BOTH=variable"]);
        assert_eq!(of(&[(Key::Labels, ""), (Key::EnvRegex, "")]), Vec::<String>::new());
    }
}
