"""`destinations onboard`: the files and lines that it writes, and the options that it refuses first."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from pushrail_stream.cli import execute
from tests.support.documents import EXAMPLE, customer, write

FOLDER = Path("config/destinations")
CREATED = FOLDER / "dst_globex_acct_1.json"
Run = tuple[int, str, str]


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PUSHRAIL_CONFIG", raising=False)
    Path("config").mkdir()
    write(FOLDER, acme=EXAMPLE)


class Onboard:
    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *more: str, **options: str) -> Run:
        given = {"vendor": "globex", "customer": "acct_1", "region": "eu-west-1", "account": "111122223333",
                 "our-account": "210987654321"} | options  # fmt: skip
        pairs = [part for name, value in given.items() for part in (f"--{name.replace('_', '-')}", value) if value]
        code = execute(["destinations", "onboard", *pairs, *more])
        out, err = (text.replace(f"{Path.cwd()}/", "") for text in self._capsys.readouterr())
        return code, out, err


@pytest.fixture
def onboard(capsys: pytest.CaptureFixture[str]) -> Onboard:
    return Onboard(capsys)


def test_the_document_and_the_steps_are_written(onboard: Onboard) -> None:
    code, out, err = onboard("--archive-days", "7", "--out", "files")
    assert (code, err.partition(":")[0]) == (0, "written to files")
    document = json.loads(CREATED.read_text(encoding="utf-8"))
    assert document["enabled"] is False
    external_id = document["auth"]["externalId"]
    assert f"external ID  {external_id}\n" in out
    parts = {str(file.relative_to("files")): file.read_text() for file in Path("files").rglob("*.*")}
    assert parts.keys() > {"cloudformation.yaml", "main.tf", "put-rule-by-tenant.json", "examples/sqs.yaml"}
    assert list(yaml.safe_load(parts["cloudformation.yaml"])["Resources"])[-1] == "Archive"
    assert json.loads(parts["policies.json"])["trust"]["Statement"][0]["Condition"] == {
        "StringEquals": {"sts:ExternalId": external_id}
    }
    assert external_id in parts["main.tf"]
    assert 'resource "aws_cloudwatch_event_archive"' in parts["main.tf"]
    assert "account 111122223333, region eu-west-1" in out.rpartition("\nNext: ")[2]


def test_json_is_one_object(onboard: Onboard) -> None:
    code, out, _ = onboard("--json")
    (line,) = out.splitlines()
    told = json.loads(line)
    assert code == 0
    assert set(told) == {
        "document", "file", "cloudFormation", "terraform", "trustPolicy", "permissionsPolicy", "rules", "files",
    }  # fmt: skip
    assert told["files"]["cloudformation.yaml"] == told["cloudFormation"]
    assert told["file"] == str(CREATED)
    assert told["document"] == json.loads(CREATED.read_text(encoding="utf-8"))


V2_BUS = f"arn:aws:events:eu-west-1:111122223333:event-busv2/orders/{'0' * 24}1"


def test_a_bus_of_eventbridgev2_is_there_before(onboard: Onboard) -> None:
    code, out, _ = onboard("--json", "--out", "files", v2_bus=V2_BUS)
    told = json.loads(out)
    assert (code, told["document"]["type"], told["document"]["busArn"]) == (0, "EVENTBRIDGE_V2", V2_BUS)
    assert told["terraform"] is None
    assert told["cloudFormation"] == Path("files/cloudformation.yaml").read_text(encoding="utf-8")
    code, out, _ = onboard("--out", "again", v2_bus=V2_BUS)
    assert (code, "They apply the\ntemplate in account 111122223333" in out, "in their queue" in out) == (0, True, True)
    assert "unchanged" in out


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"v2_bus": V2_BUS, "region": "us-east-1"}, "--v2-bus: the bus is of the region eu-west-1, not us-east-1"),
        ({"v2_bus": V2_BUS, "account": "1" * 12}, "--v2-bus: the bus is of the account 111122223333, not 111111111111"),
        ({"v2_bus": V2_BUS[:-1]}, "--v2-bus: must be the full ARN of a bus: "),
        ({"v2_bus": "orders"}, "--v2-bus: must be the full ARN of a bus: "),
        ({"v2_bus": V2_BUS, "archive_days": "7"}, "--archive-days: such a bus has no archive"),
    ],
)
def test_a_wrong_bus_of_eventbridgev2_is_refused(onboard: Onboard, options: dict[str, str], problem: str) -> None:
    code, _, err = onboard(**options)
    assert (code, problem in err) == (2, True)
    assert not CREATED.exists()


def test_a_dry_run_writes_nothing(onboard: Onboard) -> None:
    code, out, _ = onboard("--dry-run", "--out", "files", "--json")
    assert (code, json.loads(out)["file"]) == (0, None)
    assert [file.name for file in FOLDER.iterdir()] == ["acme.json"]
    assert not Path("files").exists()


def test_files_are_written_for_the_customer(onboard: Onboard) -> None:
    code, out, err = onboard("--out", "files", "--json")
    assert code == 0
    told = json.loads(out)["files"]
    assert {str(file.relative_to("files")) for file in Path("files").rglob("*.*")} == told.keys()
    assert all(Path("files", name).read_text(encoding="utf-8") == content for name, content in told.items())
    assert "written to files: README.md, " in err


def test_a_short_summary_is_printed(onboard: Onboard) -> None:
    code, out, _ = onboard()
    assert (code, "by the same command with --out DIR" in out) == (0, True)
    assert len(out.splitlines()) < 20
    code, out, _ = onboard("--out", "files")
    assert (code, "give the customer the folder files, README.md first." in out) == (0, True)


def test_the_files_can_be_written_again(onboard: Onboard) -> None:
    first = json.loads(onboard("--out", "first", "--json", **{"our-account": ""})[1])
    assert execute(["destinations", "enable", "dst_globex_acct_1"]) == 0
    enabled = CREATED.read_bytes()
    code, out, _ = onboard("--out", "second")
    external_id = first["document"]["auth"]["externalId"]
    assert (code, f"document     {CREATED}, unchanged\nexternal ID  {external_id}\n" in out) == (0, True)
    assert CREATED.read_bytes() == enabled
    files = {path: Path("second", path).read_text() for path in first["files"]}
    assert external_id in files["main.tf"]
    assert "210987654321" in files["cloudformation.yaml"]
    again = json.loads(onboard("--json")[1])
    assert (again["document"]["enabled"], again["file"], again["files"]) == (True, str(CREATED), files)


@pytest.mark.parametrize("blocked", ["files", "files/main.tf"])
def test_unwritable_files_leave_no_document(blocked: str, onboard: Onboard) -> None:
    Path(blocked).parent.mkdir(exist_ok=True)
    Path(blocked).write_text("mine", encoding="utf-8")
    code, _, err = onboard("--out", "files")
    assert code == 2
    assert "--out" in err
    assert Path(blocked).read_text(encoding="utf-8") == "mine"
    assert not CREATED.exists()


def test_a_customer_is_onboarded_once(onboard: Onboard) -> None:
    assert onboard()[0] == 0
    before = CREATED.read_bytes()
    code, out, err = onboard(role="Another")
    assert (code, out) == (2, "")
    assert err.startswith(f"error: --customer: has a destination already, dst_globex_acct_1 ({CREATED})")
    assert CREATED.read_bytes() == before


def test_a_document_of_another_id_is_found(onboard: Onboard) -> None:
    code, _, err = onboard(vendor="acme", customer="acct_8K2zRq", account="123456789012")
    assert code == 2
    assert "dst_acme_8K2zRq" in err


def test_a_broken_document_is_not_overwritten(onboard: Onboard) -> None:
    CREATED.write_text("{", encoding="utf-8")
    code, _, err = onboard()
    assert code == 2
    assert f"{CREATED} is there already, and refused" in err
    assert CREATED.read_text(encoding="utf-8") == "{"


def test_another_document_is_not_overwritten(onboard: Onboard) -> None:
    write(FOLDER, **{CREATED.stem: customer("other")})
    before = CREATED.read_bytes()
    code, out, err = onboard()
    assert (code, out) == (2, "")
    assert err == f"error: --customer: {CREATED} is there already, and the document of dst_other: rename it first\n"
    assert CREATED.read_bytes() == before


def test_another_customers_role_gets_a_hint(onboard: Onboard) -> None:
    write(FOLDER, other=customer("other", role="PushrailEventBridgeWriter"))
    (FOLDER / "acme.json").unlink()
    code, _, err = onboard(account="123456789012")
    assert code == 2
    assert err.startswith("error: auth.roleArn: is in use for another customer")
    assert "--role" in err
    assert not CREATED.exists()
    assert onboard(account="123456789012", role="GlobexWriter")[0] == 0


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("vendor", value) for value in ('a"b', "${x}", "a b", "a\nb", "Zoë", "v" * 65)),
        *(("customer", value) for value in ("c" * 257, "\udcff")),
        *(("region", value) for value in ("nowhere", "us-east-1\n", "us-iso-east-1", "eusc-de-east-1", "us-east-1 x")),
        *(("account", value) for value in ("123", "12345678901a", "１２３４５６７８９０１２")),  # noqa: RUF001
        *(("our-account", value) for value in ("123", "arn:aws:iam::210987654321:root")),
        *(("bus", value) for value in ('a"b', "${x}", "%{x", "a\nb", "a/b", "default", "b" * 257, "Zoë")),
        *(("role", value) for value in ("path/role", "r" * 65, "${x}", 'a"b', "a\n")),
    ],
)
def test_a_wrong_option_is_refused_by_name(option: str, value: str, onboard: Onboard) -> None:
    code, out, err = onboard(**{option: value})
    assert (code, out) == (2, "")
    assert err.startswith(f"error: --{option}: must be ")
    assert [file.name for file in FOLDER.iterdir()] == ["acme.json"]


@pytest.mark.parametrize("name", ['a"b', "${x} %{if}", "a\nb", "Zoë 😀", "\u202e\x9b2J", "c" * 256])
def test_no_customer_name_steers_the_terminal(name: str, onboard: Onboard) -> None:
    code, out, _ = onboard("--out", "files", customer=name)
    assert code == 0
    assert all(line.isprintable() for line in out.splitlines())
    (created,) = (file for file in FOLDER.iterdir() if file.name != "acme.json")
    assert json.loads(created.read_text(encoding="utf-8"))["customerExternalId"] == name
    event = json.loads(Path("files/example-event.json").read_text(encoding="utf-8"))
    assert event["resources"][0] == name


@pytest.mark.parametrize(
    ("region", "partition", "ours"),
    [("cn-north-1", "aws-cn", "cn-northwest-1"), ("us-gov-west-1", "aws-us-gov", "us-gov-west-1")],
)
def test_other_partitions_are_onboarded_too(
    region: str, partition: str, ours: str, onboard: Onboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PUSHRAIL_STS__REGION", ours)
    code, out, err = onboard("--json", region=region)
    told: dict[str, Any] = json.loads(out)
    assert (code, err) == (0, "")
    assert told["document"]["busArn"].startswith(f"arn:{partition}:events:{region}:111122223333:")
    assert told["document"]["auth"]["roleArn"].startswith(f"arn:{partition}:iam::111122223333:")
    assert told["trustPolicy"]["Statement"][0]["Principal"]["AWS"] == f"arn:{partition}:iam::210987654321:root"
    assert execute(["destinations", "validate"]) == 0


@pytest.mark.parametrize("our_account", ["210987654321", ""])
def test_an_unusable_role_is_refused(our_account: str, onboard: Onboard) -> None:
    code, out, err = onboard(region="cn-north-1", **{"our-account": our_account})
    assert (code, out) == (2, "")
    assert err.startswith(
        "error: --region: cn-north-1 is of the partition aws-cn, where workers whose sts.region is us-"
    )
    assert not CREATED.exists()


@pytest.mark.parametrize(
    ("region", "said"),
    [("us-esat-1", "us-east-1"), ("eu-wst-1", "eu-west-1"), ("xx-nowhere-9", "")],
)
def test_an_unknown_region_gets_a_remark(region: str, said: str, onboard: Onboard) -> None:
    """It may be new: it is written all the same."""
    code, out, err = onboard(region=region)
    assert code == 0
    assert err.startswith(f"--region: {region} is not among the regions known here")
    assert said in err
    assert f"region {region}" in out


def test_the_first_customer_makes_the_directory(onboard: Onboard) -> None:
    (FOLDER / "acme.json").unlink()
    FOLDER.rmdir()
    assert onboard("--dry-run")[0] == 0
    assert not FOLDER.exists()
    code, _, err = onboard()
    assert (code, err) == (0, f"made the directory {FOLDER}\n")
    assert json.loads(CREATED.read_text(encoding="utf-8"))["enabled"] is False


def test_an_impossible_directory_is_refused(onboard: Onboard) -> None:
    (FOLDER / "acme.json").unlink()
    FOLDER.rmdir()
    Path("config").rmdir()
    Path("config").write_text("mine", encoding="utf-8")
    code, out, err = onboard()
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {FOLDER}: ")
    assert "(registry.path)" in err


def test_one_printed_command_enables_it(
    onboard: Onboard,
) -> None:
    """As deploy/OPERATING.md has it: `destinations enable`."""
    onboard()
    written = CREATED.read_text(encoding="utf-8")
    assert execute(["destinations", "enable", "dst_globex_acct_1"]) == 0
    assert CREATED.read_text(encoding="utf-8") == written.replace('"enabled": false', '"enabled": true')


def test_an_unknown_account_gets_a_placeholder(onboard: Onboard) -> None:
    code, out, err = onboard("--json", **{"our-account": ""})
    told = json.loads(out)
    assert code == 0
    assert err.startswith("our own AWS account is not known (no credentials of our own to call AWS with: ")
    assert list(yaml.safe_load(told["cloudFormation"])["Parameters"]) == ["VendorAccountId"]
    assert 'variable "vendor_account_id"' in told["terraform"]
