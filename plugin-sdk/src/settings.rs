//! Plugin settings (`docker plugin set NAME=value`), which reach the process as environment.
//!
//! Each has a default compiled in: after `docker plugin upgrade` the environment is still the
//! old version's, so a new setting is simply not there. All bad values are reported at once.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// A setting as it stands in config.json and README.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Name of the environment variable: `[A-Z_]+`, since Docker takes a dot for a field.
    pub name: &'static str,
    /// What it does and what is allowed.
    pub description: &'static str,
    /// Used where the environment does not name it.
    pub default: &'static str,
}

/// One bad value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadSetting {
    /// The setting's name.
    pub name: &'static str,
    /// The value it has.
    pub value: String,
    /// What is allowed.
    pub reason: String,
}

/// All bad values of one start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadSettings(pub Vec<BadSetting>);

impl fmt::Display for BadSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, BadSetting { name, value, reason }) in self.0.iter().enumerate() {
            let separator = if at == 0 { "" } else { "; " };
            write!(f, "{separator}setting {name}={value}: {reason}")?;
        }
        Ok(())
    }
}

impl std::error::Error for BadSettings {}

/// The value of each setting that a process goes by, in the words it was given or the default's.
pub type InForce = BTreeMap<&'static str, String>;

/// Reads settings one after another and collects what is wrong.
///
/// ```
/// # use plugin_sdk::settings::{Reader, Setting};
/// const WORKERS: Setting = Setting { name: "WORKERS", description: "threads", default: "2" };
/// let mut reader = Reader::new([("WORKERS".to_owned(), "many".to_owned())]);
/// let workers: u8 = reader.read(&WORKERS);
/// assert_eq!(workers, 2);
/// assert!(reader.finish().is_err());
/// ```
#[derive(Debug)]
pub struct Reader {
    environment: BTreeMap<String, String>,
    bad: Vec<BadSetting>,
    in_force: InForce,
}

impl Reader {
    /// Reads out of `environment`, for a plugin [`std::env::vars`].
    pub fn new(environment: impl IntoIterator<Item = (String, String)>) -> Self {
        Self {
            environment: environment.into_iter().collect(),
            bad: Vec::new(),
            in_force: InForce::new(),
        }
    }

    /// The value of `setting`; where it is bad, the default, and [`Reader::finish`] will tell.
    ///
    /// # Panics
    /// When the compiled-in default does not parse, which each plugin's tests would show.
    pub fn read<T>(&mut self, setting: &Setting) -> T
    where
        T: FromStr,
        T::Err: fmt::Display,
    {
        if let Some(value) = self.environment.get(setting.name) {
            match value.parse() {
                Ok(parsed) => {
                    self.in_force.insert(setting.name, value.clone());
                    return parsed;
                }
                Err(reason) => self.bad.push(BadSetting {
                    name: setting.name,
                    value: value.clone(),
                    reason: T::Err::to_string(&reason),
                }),
            }
        }
        self.in_force.insert(setting.name, setting.default.to_owned());
        setting
            .default
            .parse()
            .unwrap_or_else(|reason| panic!("the default of {}: {reason}", setting.name))
    }

    /// What was read so far.
    pub fn in_force(&self) -> InForce {
        self.in_force.clone()
    }

    /// `Ok` when every value read was good.
    pub fn finish(self) -> Result<(), BadSettings> {
        if self.bad.is_empty() { Ok(()) } else { Err(BadSettings(self.bad)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Setting = Setting { name: "A", description: "", default: "1" };
    const B: Setting = Setting { name: "B", description: "", default: "2" };

    fn environment(pairs: &[(&str, &str)]) -> Reader {
        Reader::new(pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())))
    }

    #[test]
    fn a_missing_setting_has_its_default() {
        let mut reader = environment(&[("B", "7")]);
        assert_eq!((reader.read::<u8>(&A), reader.read::<u8>(&B)), (1, 7));
        assert_eq!(reader.in_force(), InForce::from([("A", "1".into()), ("B", "7".into())]));
        assert_eq!(reader.finish(), Ok(()));
    }

    #[test]
    fn every_bad_one_is_reported() {
        let mut reader = environment(&[("A", "x"), ("B", "300")]);
        let _: (u8, u8) = (reader.read(&A), reader.read(&B));
        assert_eq!(reader.in_force()["A"], "1");
        let error = reader.finish().unwrap_err().to_string();
        assert!(error.contains("A=x") && error.contains("B=300"), "{error}");
    }
}
