from __future__ import annotations

import pytest

from santiago_platform.domain.deployment import Version
from santiago_platform.domain.effect import claims
from santiago_platform.domain.rollout import Desired
from santiago_platform.domain.workload import Port, Template

WEB = Template(
    service="web",
    environment="production",
    tenant="default",
    release="r",
    command=("run",),
    ports=(Port(name="http", target=80),),
)


@pytest.mark.parametrize(("template", "subject"), [(WEB, "serves web/production"), (None, "serves web/production h2c")])
def test_a_service_that_speaks_http_2_is_asked_in_a_way_that_it_understands(
    template: Template | None, subject: str
) -> None:
    version = Version(template=template or WEB.model_copy(update={"protocol": "h2c"}), replicas=1)
    found = claims("web", "production", Desired(replicas=((version, 1),), weights={version.name: 1}))
    assert [(c.subject, c.expected) for c in found][-1] == (subject, version.name)
