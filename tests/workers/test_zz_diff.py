import pytest, difflib
from tests.workers.test_both_engines import SCENARIOS, DEFECTS, by_both, site, json


@pytest.mark.parametrize(
    "name",
    [
        "nothing to do",
        "with task log",
        "archive and purge",
        "archive and purge by date",
        "blocked rows",
        "a server that refuses",
        "a broken API database",
        "a total, as data",
    ],
)
def test_d(site, name):
    line, prepare, code = (SCENARIOS | DEFECTS)[name]
    a, b = by_both(site, line, prepare)
    print("=====", name, a.code, b.code, a.rows == b.rows)
    for x, y in ((a.out, b.out), (a.err, b.err)):
        if "{" in x[:1]:
            x, y = json.dumps(json.loads(x), indent=1), json.dumps(json.loads(y), indent=1)
        print(
            "\n".join(
                list(difflib.unified_diff(x.splitlines(), y.splitlines(), "inline", "workers", lineterm="", n=1))[:25]
            )
        )
    for k in a.rows:
        if a.rows[k] != b.rows.get(k):
            print("ROWS", k)
