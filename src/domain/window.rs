//! Windows: the hours in which an environment lets imports be applied.

use std::str::FromStr;

use chrono::{DateTime, Datelike, Days, NaiveDateTime, NaiveTime, TimeDelta, TimeZone, Utc, Weekday};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The hours in which imports may be applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Windows {
    /// By whose clocks: a name of the IANA data base, such as `Asia/Shanghai`.
    #[schema(value_type = String)]
    pub time_zone: Zone,
    /// One after another, or overlapping: any of them will do.
    pub hours: Vec<Hours>,
}

/// Some hours of some days.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Hours {
    /// The days on which they begin.
    pub days: Vec<Day>,
    /// When they begin, as `22:00`.
    #[schema(value_type = String)]
    pub from: Clock,
    /// When they end; on the next day, where that is no later than they begin.
    #[schema(value_type = String)]
    pub to: Clock,
}

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "everybody knows the days of the week")]
pub enum Day {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

impl Day {
    fn of(day: Weekday) -> Self {
        match day {
            Weekday::Mon => Self::Mon,
            Weekday::Tue => Self::Tue,
            Weekday::Wed => Self::Wed,
            Weekday::Thu => Self::Thu,
            Weekday::Fri => Self::Fri,
            Weekday::Sat => Self::Sat,
            Weekday::Sun => Self::Sun,
        }
    }
}

/// A time zone that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Zone(Tz);

impl TryFrom<String> for Zone {
    type Error = String;
    fn try_from(name: String) -> Result<Self, String> {
        Tz::from_str(&name).map(Self).map_err(|_| "must be a time zone such as Europe/Berlin".to_owned())
    }
}

impl From<Zone> for String {
    fn from(zone: Zone) -> Self {
        zone.0.name().to_owned()
    }
}

/// A time of day, to the minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Clock(NaiveTime);

impl TryFrom<String> for Clock {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let read = NaiveTime::parse_from_str(&text, "%H:%M");
        read.map(Self).map_err(|_| "must be a time of day such as 22:00".to_owned())
    }
}

impl From<Clock> for String {
    fn from(clock: Clock) -> Self {
        clock.0.format("%H:%M").to_string()
    }
}

impl Windows {
    /// Some hours of some day: without any, nothing would ever be applied.
    pub fn ever_open(&self) -> bool {
        !self.hours.is_empty() && self.hours.iter().all(|hours| !hours.days.is_empty())
    }

    /// When the next window begins; none: one is open.
    pub fn opens(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let Zone(zone) = self.time_zone;
        let today = now.with_timezone(&zone).date_naive();
        // One that began yesterday may be open still; each day comes again within a week.
        let days = (0..=8).filter_map(|ahead| today.checked_sub_days(Days::new(1))?.checked_add_days(Days::new(ahead)));
        let windows = days.flat_map(|day| {
            let begin = move |hours: &&Hours| hours.days.contains(&Day::of(day.weekday()));
            self.hours.iter().filter(begin).filter_map(move |hours| {
                let (Clock(from), Clock(to)) = (hours.from, hours.to);
                let last = if to > from { day } else { day.checked_add_days(Days::new(1))? };
                Some((instant(zone, day.and_time(from))?, instant(zone, last.and_time(to))?))
            })
        });
        let mut next = None;
        for (begin, end) in windows {
            if begin <= now && now < end {
                return None;
            }
            if begin > now && next.is_none_or(|next| begin < next) {
                next = Some(begin);
            }
        }
        next
    }
}

/// When clocks first show a time; where they are put forward over it, when they have been.
fn instant(zone: Tz, local: NaiveDateTime) -> Option<DateTime<Utc>> {
    let skipped = || zone.from_local_datetime(&(local + TimeDelta::hours(1))).earliest();
    let found = zone.from_local_datetime(&local).earliest().or_else(skipped);
    found.map(|found| found.to_utc())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn windows(hours: serde_json::Value) -> Windows {
        serde_json::from_value(json!({"time_zone": "Europe/Berlin", "hours": hours})).unwrap()
    }

    fn opens(windows: &Windows, now: &str) -> Option<String> {
        windows.opens(now.parse().unwrap()).map(|at| at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true))
    }

    #[test]
    fn a_window_is_open_from_its_beginning_to_before_its_end() {
        // 2026-11-28 is a Saturday; Berlin is an hour ahead of UTC.
        let office = windows(json!([{"days": ["mon", "tue", "wed", "thu", "fri"], "from": "09:00", "to": "17:00"}]));
        for (now, next) in [
            ("2026-11-27T07:59:59Z", Some("2026-11-27T08:00:00Z")),
            ("2026-11-27T08:00:00Z", None),
            ("2026-11-27T15:59:59Z", None),
            ("2026-11-27T16:00:00Z", Some("2026-11-30T08:00:00Z")),
            ("2026-11-28T10:00:00Z", Some("2026-11-30T08:00:00Z")),
        ] {
            assert_eq!(opens(&office, now).as_deref(), next, "{now}");
        }
    }

    #[test]
    fn a_window_may_last_until_the_next_day() {
        let night = windows(json!([{"days": ["fri"], "from": "22:00", "to": "04:00"}]));
        for (now, next) in [
            ("2026-11-27T20:59:00Z", Some("2026-11-27T21:00:00Z")),
            ("2026-11-28T02:59:00Z", None),
            ("2026-11-28T03:00:00Z", Some("2026-12-04T21:00:00Z")),
        ] {
            assert_eq!(opens(&night, now).as_deref(), next, "{now}");
        }
        let day = windows(json!([{"days": ["sat"], "from": "00:00", "to": "00:00"}]));
        assert_eq!(opens(&day, "2026-11-28T22:59:00Z"), None);
        assert_eq!(opens(&day, "2026-11-28T23:00:00Z").as_deref(), Some("2026-12-04T23:00:00Z"));
    }

    #[test]
    fn clocks_that_are_put_forward_or_back_are_followed() {
        // On 2026-03-29 02:30 does not exist in Berlin; on 2026-10-25 it comes twice.
        let early = windows(json!([{"days": ["sun"], "from": "02:30", "to": "05:00"}]));
        assert_eq!(opens(&early, "2026-03-29T00:00:00Z").as_deref(), Some("2026-03-29T01:30:00Z"));
        assert_eq!(opens(&early, "2026-03-29T02:59:00Z"), None);
        assert_eq!(opens(&early, "2026-10-25T00:00:00Z").as_deref(), Some("2026-10-25T00:30:00Z"));
        assert_eq!(opens(&early, "2026-10-25T03:59:00Z"), None);
    }

    #[test]
    fn what_is_no_time_and_no_zone_is_refused() {
        for wrong in [
            json!({"time_zone": "Moon/Base", "hours": []}),
            json!({"time_zone": "UTC", "hours": [{"days": ["mon"], "from": "25:00", "to": "05:00"}]}),
            json!({"time_zone": "UTC", "hours": [{"days": ["someday"], "from": "01:00", "to": "05:00"}]}),
        ] {
            assert!(serde_json::from_value::<Windows>(wrong.clone()).is_err(), "{wrong}");
        }
        assert!(
            !windows(json!([])).ever_open()
                && !windows(json!([{"days": [], "from": "01:00", "to": "02:00"}])).ever_open()
        );
    }
}
