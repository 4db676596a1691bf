"""The infrastructure for AWS: cfn-lint has nothing to say; rights and lifetimes are as promised."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # no stubs are installed

ROOT = Path(__file__).parents[2]
TEMPLATE = ROOT / "deploy" / "aws" / "template.yaml"


class Loader(yaml.SafeLoader):  # type: ignore[misc]  # no stubs
    """Reads CloudFormation's short forms: ``!Sub text`` becomes ``{"Sub": "text"}``."""


def _short_form(loader: Any, name: str, node: Any) -> dict[str, Any]:
    kinds = {yaml.ScalarNode: "scalar", yaml.SequenceNode: "sequence", yaml.MappingNode: "mapping"}
    return {name: getattr(loader, f"construct_{kinds[type(node)]}")(node)}


Loader.add_multi_constructor("!", _short_form)


@pytest.fixture(scope="module")
def resources() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.load(TEMPLATE.read_text(), Loader)["Resources"]  # noqa: S506  a safe loader
    return loaded


def of_type(resources: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    found = [one["Properties"] for one in resources.values() if one["Type"] == kind]
    assert found, kind
    return found


def test_cfn_lint_has_nothing_to_say() -> None:
    linted = subprocess.run(
        [Path(sys.executable).with_name("cfn-lint"), TEMPLATE], capture_output=True, text=True, check=False
    )
    assert (linted.returncode, linted.stdout) == (0, "")


def test_a_broken_template_is_found(tmp_path: Path) -> None:
    broken = tmp_path / "template.yaml"
    broken.write_text(TEMPLATE.read_text().replace("VersioningConfiguration", "VersioningConfigurations"))
    linted = subprocess.run(
        [Path(sys.executable).with_name("cfn-lint"), broken], capture_output=True, text=True, check=False
    )
    assert linted.returncode != 0


def test_the_bucket_is_versioned_encrypted_private_and_outlives_the_stack(resources: dict[str, Any]) -> None:
    bucket = resources["Bucket"]
    assert bucket["DeletionPolicy"] == bucket["UpdateReplacePolicy"] == "Retain"
    properties = bucket["Properties"]
    assert properties["VersioningConfiguration"] == {"Status": "Enabled"}
    assert properties["BucketEncryption"]
    assert set(properties["PublicAccessBlockConfiguration"].values()) == {True}
    rules = properties["LifecycleConfiguration"]["Rules"]
    assert any(rule.get("NoncurrentVersionExpiration") for rule in rules)
    assert not any("ExpirationInDays" in rule for rule in rules)  # nothing in use expires


def statements(resources: dict[str, Any]) -> list[dict[str, Any]]:
    inline = [
        statement
        for role in of_type(resources, "AWS::IAM::Role")
        for policy in role.get("Policies", ())
        for statement in policy["PolicyDocument"]["Statement"]
    ]
    managed = [
        statement
        for policy in of_type(resources, "AWS::IAM::ManagedPolicy")
        for statement in policy["PolicyDocument"]["Statement"]
    ]
    return inline + managed


def test_rights_are_the_least(resources: dict[str, Any]) -> None:
    everywhere = []
    for statement in statements(resources):
        actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        assert not any("*" in action for action in actions), actions
        assert "s3:DeleteObjectVersion" not in actions
        if statement["Resource"] == "*":
            everywhere += [action for action in actions if "Condition" not in statement]
        if "s3:DeleteObject" in actions:
            taken = str(statement["Resource"])
            assert "drops" not in taken or taken.endswith("/monthly/drops/*/drop.json'}"), taken
    assert everywhere == ["ecr:GetAuthorizationToken"]  # which knows no resource


def test_the_machine_is_reached_by_nobody_but_the_load_balancer(resources: dict[str, Any]) -> None:
    assert "SecurityGroupIngress" not in resources["MachineGroup"]["Properties"]
    [ingress] = of_type(resources, "AWS::EC2::SecurityGroupIngress")
    assert ingress["SourceSecurityGroupId"] == {"Ref": "BalancerGroup"}
    assert resources["Machine"]["Properties"]["MetadataOptions"]["HttpTokens"] == "required"
    volume = resources["DataVolume"]
    assert volume["DeletionPolicy"] == "Snapshot"
    assert volume["Properties"]["Encrypted"] is True


def test_every_log_ends_and_every_alarm_is_heard(resources: dict[str, Any]) -> None:
    assert all("RetentionInDays" in group for group in of_type(resources, "AWS::Logs::LogGroup"))
    for alarm in of_type(resources, "AWS::CloudWatch::Alarm"):
        assert {"Ref": "AlarmTopic"} in alarm["AlarmActions"]


def test_no_secret_is_in_the_template(resources: dict[str, Any]) -> None:
    for secret in of_type(resources, "AWS::SecretsManager::Secret"):
        assert "GenerateSecretString" in secret or secret["SecretString"].startswith("#")


def test_the_script_of_the_machine_is_one(resources: dict[str, Any], tmp_path: Path) -> None:
    text = resources["Machine"]["Properties"]["UserData"]["Fn::Base64"]["Sub"]
    script = re.sub(r"\$\{(?!!)[^}]+\}", "X", text).replace("${!", "${")  # as CloudFormation replaces it
    (tmp_path / "script").write_text(script)
    parsed = subprocess.run(["bash", "-n", tmp_path / "script"], capture_output=True, text=True, check=False)
    assert (parsed.returncode, parsed.stderr) == (0, "")
    # The parts that it writes into files, too.
    for number, part in enumerate(re.findall(r"<<'SCRIPT'\n(.*?)\nSCRIPT", script, re.DOTALL)):
        (tmp_path / f"part{number}").write_text(part)
        parsed = subprocess.run(
            ["bash", "-n", tmp_path / f"part{number}"], capture_output=True, text=True, check=False
        )
        assert (parsed.returncode, parsed.stderr) == (0, "")
    # What it starts and sets exists.
    images = (ROOT / "Dockerfile").read_text()
    for command in ("embup serve", "dagster-webserver", "dagster-daemon run", "pipelines.instance"):
        assert command in script
    assert "10001:10001" in images
    assert "chown 10001:10001 /data" in script
    # Batches may write below /data, so nothing that is run lies there.
    assert not re.search(r"/data/\S*\.sh", script)
    for part in ("webserver", "daemon"):
        assert f"-- sh /usr/local/lib/embup/start-{part}.sh" in script
