"""Look for what is wrong, and mend it, as `manage.py doctor --fix` does."""

from billing import doctor
from billing.doctor import Finding


def found(slug: str) -> list[Finding]:
    return doctor.examine([slug])


def only(slug: str) -> Finding:
    (finding,) = found(slug)
    return finding


def mend(finding: Finding) -> None:
    """Mend what is found, as `doctor --fix` would, and see it gone."""
    treatment = doctor.mend([finding])
    assert (treatment.mended, treatment.failed) == ([finding], [])
    assert finding.key not in {each.key for each in found(finding.slug)}
