"""Sunrise and sunset, dawn and dusk, and noon by the sun, at a place at sea level.

The astronomy is astral's. Its own search goes by calendar days, of which some have no sunset and others two, wherever the
sun sets about midnight in UTC; here each turn of the sun around the place is looked at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from importlib import import_module
from typing import Any

INSTALL = "pip install 'django-taskq-kombu[solar]'"

#: degrees of the sun below the horizon at each event, and whether the sun rises; noon has neither. Names as Celery has
#: them; dawn and dusk alone are the civil ones.
EVENTS: dict[str, tuple[float, bool] | None] = {
    "dawn_astronomical": (18.0, True),
    "dawn_nautical": (12.0, True),
    "dawn_civil": (6.0, True),
    "dawn": (6.0, True),
    "sunrise": (32 / 120, True),  # the sun's upper edge: its radius is 16 minutes of arc
    "solar_noon": None,
    "sunset": (32 / 120, False),
    "dusk": (6.0, False),
    "dusk_civil": (6.0, False),
    "dusk_nautical": (12.0, False),
    "dusk_astronomical": (18.0, False),
}

#: days after which an event is taken for one that never comes: between the polar circles and the poles some stay away
#: for most of a year
_DAYS = 400
#: degrees beyond which every direction is the same; what astral takes the poles for
_LAST_LATITUDE = 89.8
#: how often a time is computed from where the sun was at the time computed before; the third changes it by milliseconds
_ROUNDS = 3
_DAY_MINUTES = 1440.0
#: one radian
_DEGREES = 57.29577951308232


@dataclass(frozen=True, kw_only=True)
class Solar:
    """The rule of an event of the sun; ticks are rounded to seconds. ``next_after`` raises ``ValueError`` without astral."""

    event: str
    latitude: float
    longitude: float
    kind: str = "solar"

    def next_after(self, moment: datetime) -> datetime | None:
        """See ``core.schedule.Rule``. Days without the event, of the polar summer and winter, are passed over."""
        try:
            first = moment.astimezone(UTC).date() - timedelta(days=2)
            for days in range(_DAYS):
                tick = self._on(first + timedelta(days=days))
                if tick is not None and tick > moment:
                    return tick
        except OverflowError:
            # Beyond the last day that Python's calendar has.
            return None
        return None

    def _on(self, day: date) -> datetime | None:
        """The event of one turn of the sun: that of the noon that is nearest to noon of this day at the place."""
        sun, _, _ = self._astral
        angle = EVENTS[self.event]
        start = datetime(day.year, day.month, day.day, tzinfo=UTC)
        # Of all places at this longitude it is noon now, but for the equation of time.
        minutes = _DAY_MINUTES / 2 - self.longitude * 4
        noon = minutes
        for _ in range(_ROUNDS):
            century = self._century(day, minutes)
            turned = 0.0
            if angle is not None:
                try:
                    turned = sun.hour_angle(
                        max(-_LAST_LATITUDE, min(_LAST_LATITUDE, self.latitude)),
                        sun.sun_declination(century),
                        self._zenith,
                        self._direction,
                    )
                except ValueError:
                    # The sun is above this height all day, or below it.
                    return None
            minutes = noon - turned * _DEGREES * 4 - sun.eq_of_time(century)
        return start + timedelta(seconds=round(minutes * 60))

    def _century(self, day: date, minutes: float) -> float:
        _, julian, _ = self._astral
        century: float = julian.julianday_to_juliancentury(julian.julianday(day) + minutes / _DAY_MINUTES)
        return century

    @cached_property
    def _zenith(self) -> float:
        """How far from the zenith the sun seems to be: the air lifts it."""
        angle = EVENTS[self.event]
        _, _, astral = self._astral
        zenith: float = 90.0 + (angle[0] if angle else 0.0)
        return zenith + float(astral.refraction_at_zenith(zenith))

    @cached_property
    def _direction(self) -> Any:
        angle = EVENTS[self.event]
        direction = self._astral[2].SunDirection
        return direction.RISING if angle and angle[1] else direction.SETTING

    @cached_property
    def _astral(self) -> tuple[Any, Any, Any]:
        try:
            return import_module("astral.sun"), import_module("astral.julian"), import_module("astral")
        except ImportError as error:
            raise ValueError(f"solar schedules need astral, which is not installed: {INSTALL}.") from error
