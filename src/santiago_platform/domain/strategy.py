"""How a new version takes the place of the old one."""

from enum import StrEnum


class Strategy(StrEnum):
    BLUE_GREEN = "blue_green"  # all new instances beside all old ones, then one switch
    CANARY = "canary"  # by steps of weight, each judged; see domain/canary.py
    ROLLING = "rolling"  # one instance at a time
    RECREATE = "recreate"  # the old version stops before the new one starts: not without downtime


WARM_STRATEGIES = frozenset({Strategy.BLUE_GREEN, Strategy.CANARY})  # the old version stays warm for a while
