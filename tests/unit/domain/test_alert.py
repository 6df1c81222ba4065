"""An alert as Prometheus gets it."""

from __future__ import annotations

from datetime import UTC, datetime

from santiago_platform.domain.alert import Alert, AlertSpec, condition


def test_what_an_alert_reads_and_its_runbook_are_no_templates() -> None:
    """Only its summary is one, of the value and labels; templates of Prometheus can query the series of everybody."""
    query = '{{("secret")|query|first|value}}'
    spec = AlertSpec(
        expression=f"rate(failed{{path!=`{query}`}}[1m]) > 0",
        summary="{{ $value }} failed",
        runbook_url=f"https://runbooks.example/{query}",
    )
    expression = condition(spec, "", "web", "production")
    now = datetime(2026, 1, 1, tzinfo=UTC)
    place = {"service": "web", "environment": "production"}
    rule = Alert(name="Failed", expression=expression, spec=spec, by="ann", at=now, **place).rule()
    assert "{{(" in rule.expr
    assert rule.annotations["summary"] == "{{ $value }} failed"
    for said in ("description", "runbook_url"):
        assert "{{(" not in rule.annotations[said]
        assert '{{ "{{" }}(' in rule.annotations[said]
