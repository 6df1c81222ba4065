from __future__ import annotations

import re
from pathlib import Path

import pytest

from santiago_platform.adapters.local.promtool import check_rules
from santiago_platform.adapters.workspace.init import FILES
from santiago_platform.adapters.workspace.slo import read_slos
from santiago_platform.adapters.workspace.workspace import FileWorkspace
from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.domain.expression import selectors
from santiago_platform.domain.slo import DAY, PLATFORM, Events, Method, Ratio, Slo, Threshold
from santiago_platform.domain.slo_cases import rule_tests
from santiago_platform.domain.slo_proposal import Shown, openslo, propose
from santiago_platform.domain.slo_rules import rule_groups

WHERE = "services/web/slo.yaml"
HEAD = "apiVersion: openslo/v1\nkind: SLO\nmetadata: {name: availability}\nspec:\n"
SHORT = (
    HEAD
    + """\
  service: web
  indicatorRef: availability
  timeWindow: [{duration: 28d, isRolling: true}]
  budgetingMethod: Occurrences
  objectives: [{target: 0.999}]
"""
)
PROMETHEUS = "{metricSource: {type: Prometheus, spec: {query: '%s'}}}"
TOTAL = PROMETHEUS % 'http_requests_total{env="$environment"}'
GOOD = PROMETHEUS % 'http_requests_total{env="$environment",code!~"5.."}'


def inline(metric: str, **replaced: str) -> str:
    text = SHORT.replace("indicatorRef: availability", "indicator: {spec: {" + metric + "}}")
    for old, new in replaced.items():
        text = re.sub(rf"{old}: .*", f"{old}: {new}", text)
    return text


def read(text: str, *environments: str) -> tuple[Slo, ...]:
    return read_slos(text, WHERE, service="web", environments=environments or ("staging", "production"))


RATIO = inline(f"ratioMetric: {{counter: true, good: {GOOD}, total: {TOTAL}}}")
RAW = inline("ratioMetric: {rawType: failure, raw: " + PROMETHEUS % 'errors:ratio{env="$environment"}' + "}")
LATENCY = inline(
    "ratioMetric: {good: {metricSource: {type: santiago, spec: {signal: latency, threshold: 250ms}}}, "
    "total: {metricSource: {type: santiago, spec: {signal: latency}}}}"
)
THRESHOLD = inline("thresholdMetric: " + PROMETHEUS % 'queue{env="$environment"}').replace(
    "target: 0.999", "op: lte, value: 10, target: 0.99"
)
WHOLE = """\
apiVersion: openslo/v1
kind: Service
metadata: {name: web, displayName: Web}
---
apiVersion: openslo/v1
kind: DataSource
metadata: {name: local}
spec: {type: Prometheus, connectionDetails: {url: "http://127.0.0.1"}}
---
apiVersion: openslo/v1
kind: SLI
metadata: {name: answers}
spec:
  ratioMetric:
    counter: true
    bad: {metricSource: {metricSourceRef: local, spec: {query: 'bad_total{env="$environment"}'}}}
    total: {metricSource: {metricSourceRef: local, spec: {query: 'sum(all_total{env="$environment"})'}}}
---
apiVersion: openslo/v1
kind: AlertCondition
metadata: {name: fast}
spec:
  severity: page
  condition: {kind: burnrate, op: gte, threshold: 2, lookbackWindow: 1h, alertAfter: 5m}
---
apiVersion: openslo/v1
kind: AlertNotificationTarget
metadata: {name: oncall}
spec: {target: email}
---
apiVersion: openslo/v1
kind: AlertPolicy
metadata: {name: FastBurn}
spec:
  description: Look at the last release first.
  alertWhenBreaching: true
  alertWhenNoData: true
  conditions: [{conditionRef: fast}]
  notificationTargets: [{targetRef: oncall}]
---
apiVersion: openslo/v1
kind: SLO
metadata:
  name: answers
  labels: {environment: production, owner: shop}
  annotations: {santiago/sla: 99%, santiago/runbook: "https://runbooks/web"}
spec:
  service: web
  indicatorRef: answers
  timeWindow: [{duration: 1M, calendar: {startTime: 2026-01-01 00:00:00, timeZone: Europe/Paris}}]
  budgetingMethod: Timeslices
  objectives: [{targetPercent: 99.5, timeSliceTarget: 0.95, timeSliceWindow: 5m}]
  alertPolicies: [FastBurn]
"""


def test_an_objective_holds_in_every_environment_unless_its_label_names_some() -> None:
    assert [slo.environment for slo in read(SHORT)] == ["staging", "production"]
    named = SHORT.replace("name: availability}", "name: availability, labels: {environment: production}}")
    assert [slo.environment for slo in read(named)] == ["production"]


def test_availability_needs_no_instrumentation() -> None:
    (slo,) = read(SHORT, "production")
    assert isinstance(slo.indicator, Events)
    assert 'service="web"' in slo.indicator.total
    assert slo.period_seconds == 28 * DAY


def test_references_lead_to_what_the_file_defines() -> None:
    slo, sla = read(WHOLE)
    assert isinstance(slo.indicator, Events)
    assert slo.indicator.bad == 'bad_total{env="production"}'
    assert (slo.method, slo.slice_seconds, slo.target) == (Method.TIMESLICES, 300, 0.995)
    assert slo.alerts is not None
    assert [(alert.name, alert.targets, alert.no_data) for alert in slo.alerts] == [
        ("FastBurn", ("oncall",), False),
        ("FastBurn-no-data", ("oncall",), True),
    ]
    assert slo.calendar is not None
    assert slo.calendar.offsets[:2] == ((0, 3600), (1585443600, 7200))  # 2020-03-29 01:00 UTC
    assert (sla.name, sla.target, sla.sla, sla.alerts) == ("answers-sla", 0.99, True, ())


def test_the_other_forms_of_indicators() -> None:
    assert isinstance(read(RAW)[0].indicator, Ratio)
    assert isinstance(read(THRESHOLD)[0].indicator, Threshold)
    assert isinstance(read(LATENCY)[0].indicator, Events)


@pytest.mark.parametrize("text", [SHORT, RATIO, RAW, LATENCY, THRESHOLD, WHOLE])
async def test_what_is_read_compiles_and_does_what_its_cases_say(text: str) -> None:
    for slo in read(text):
        if slo.environment == "production":
            await check_rules(rule_groups(slo), rule_tests(slo))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (SHORT.replace("openslo/v1", "openslo/v1alpha"), ":1: apiVersion is openslo/v1alpha, not openslo/v1"),
        (SHORT.replace("kind: SLO", "kind: SL0"), ":2: there is no kind SL0"),
        (SHORT.replace("service: web", "service: shop"), ":5: this is the file of web, not of shop"),
        (SHORT.replace("Ref: availability", "Ref: avail"), ":6: there is no SLI avail"),
        (SHORT.replace("Ref: availability", "Ref: latency-300ms"), ":6: there is no SLI latency-300ms"),
        (SHORT.replace("  indicatorRef: availability\n", ""), ":4: spec: exactly one of indicator and indicatorRef"),
        (SHORT.replace("target: 0.999", "target: 1"), ":9: spec.objectives.0.target: "),
        (SHORT.replace("target: 0.999", "target: 0.9, targetPercent: 90"), ":9: spec.objectives.0: exactly one of"),
        (SHORT.replace("Occurrences", "Often"), ":8: spec.budgetingMethod: "),
        (SHORT.replace("Occurrences", "Timeslices"), ":9: timeSliceWindow is needed"),
        (SHORT.replace("isRolling: true", "isRolling: false"), ":7: spec.timeWindow.0: a window is rolling"),
        (SHORT.replace("28d", "4 weeks"), ":7: spec.timeWindow.0.duration: "),
        (SHORT.replace("28d", "5m"), ":7: a window is from one hour to one year"),
        (SHORT.replace("name: availability}", "name: a, annotations: {santiago/sla: 99.95%}}"), "promises"),
        (SHORT.replace("name: availability}", "name: a, labels: {environment: prod}}"), ":3: there is no environment"),
        (SHORT + "  objective: 7\n", ":10: unknown key 'objective' in spec"),
        (SHORT + "---\n" + SHORT, ":13: there are two of kind SLO"),
        (
            inline(f"ratioMetric: {{total: {TOTAL}}}"),
            ":6: spec.indicator.spec.ratioMetric: exactly one",
        ),
        (inline(f"ratioMetric: {{raw: {TOTAL}}}"), "rawType"),
        (inline(f"ratioMetric: {{good: {GOOD}, bad: {GOOD}, total: {TOTAL}}}"), "exactly one of good and bad"),
        (RATIO.replace("$environment", "production"), "reads the same series for every environment"),
        (RATIO.replace(TOTAL, PROMETHEUS % 'sum(rate(x{e="$environment"}[1m]))'), "a counter is a selector"),
        (THRESHOLD.replace("op: lte, ", ""), ":9: op and value are needed"),
        (WHOLE.replace("conditionRef: fast", "conditionRef: slow"), ":38: there is no AlertCondition slow"),
        (WHOLE.replace("kind: burnrate", "kind: average"), ":24: spec.condition.kind: "),
        (WHOLE.replace("severity: page", "severity: loud"), ":23: the severity 'loud' is none"),
        (WHOLE.replace("Europe/Paris", "Europe/Pari"), "there is no time zone Europe/Pari"),
        ("- SLO\n", ":1: it is no object of OpenSLO"),
    ],
)
def test_what_is_not_openslo_is_refused_with_its_line(text: str, said: str) -> None:
    with pytest.raises(PlatformError, match=re.escape(said)) as refused:
        read(text)
    assert refused.value.code is ErrorCode.INVALID_ARGUMENT
    assert refused.value.message.startswith(WHERE)


async def test_the_files_that_init_writes_compile(tmp_path: Path) -> None:
    for path in ("santiago.yaml", "slo.yaml", "services/hello/slo.yaml"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(FILES[path])
    workspace = FileWorkspace(tmp_path)
    own = workspace.slos(PLATFORM)
    assert [slo.name for slo in own] == ["availability", "latency", "throughput", "errors"]
    assert {slo.environment for slo in own} == {PLATFORM}
    for slo in (*own, *workspace.slos("hello")):
        await check_rules(rule_groups(slo), rule_tests(slo))
    assert workspace.slos("nobody") == ()


def test_metrics_are_kept_for_two_of_the_longest_window_whatever_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "santiago.yaml").write_text("version: 1\nenvironments: {production: {}}\n")
    for name, text in {"web": SHORT.replace("28d", "90d"), "broken": "kind: ["}.items():
        (tmp_path / "services" / name).mkdir(parents=True)
        (tmp_path / "services" / name / "score.yaml").write_text("")
        (tmp_path / "services" / name / "slo.yaml").write_text(text)
    assert FileWorkspace(tmp_path).metrics_seconds() == 180 * DAY


@pytest.mark.parametrize("text", [RATIO, RAW, THRESHOLD])
async def test_with_several_tenants_a_query_reads_the_series_of_its_own_service_alone(text: str) -> None:
    for slo in read_slos(text, WHERE, service="web", environments=("staging", "production"), confine=True):
        for rule in rule_groups(slo)[0].rules:
            read_by_it = [s for s in selectors(rule.expr) if s.name in ("http_requests_total", "errors:ratio", "queue")]
            assert all(s.sample.get("service") == "web" for s in read_by_it), rule.expr
        await check_rules(rule_groups(slo), rule_tests(slo))


@pytest.mark.parametrize(
    "query", ['queue{env="$environment",service="bank"}', '{service=~".+",env="$environment" or service="bank"}']
)
def test_with_several_tenants_a_query_of_another_service_is_refused(query: str) -> None:
    text = THRESHOLD.replace('queue{env="$environment"}', query)
    with pytest.raises(PlatformError, match=r"services/web/slo\.yaml:\d+: "):
        read_slos(text, WHERE, service="web", environments=("production",), confine=True)


def test_the_workspace_confines_queries_once_there_is_a_second_tenant(tmp_path: Path) -> None:
    (tmp_path / "services/web").mkdir(parents=True)
    (tmp_path / WHERE).write_text(THRESHOLD)
    head = "environments: {production: {}}\n"

    def asked() -> str:
        indicator = FileWorkspace(tmp_path).slos("web")[0].indicator
        assert isinstance(indicator, Threshold)
        return indicator.expression

    (tmp_path / "santiago.yaml").write_text(head)
    assert "service" not in asked()
    (tmp_path / "santiago.yaml").write_text(head + "tenants: {bank: {services: [vault]}}\n")
    assert 'service="web"' in asked()


def test_what_is_proposed_is_read_as_it_was_meant() -> None:
    shown = Shown(requests=10_000, errors=1, within=((0.25, 9_900), (3600.0, 10_000)))
    slos = read(openslo("web", "production", propose(shown)))
    assert [(s.environment, s.name, s.target) for s in slos] == [
        ("production", "availability", 0.9995),
        ("production", "latency-250ms", 0.95),
    ]
