"""Checks of the region's zones, and of the versions and sizes of database and read cache."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from infra.database import (
    AuroraDatabase,
    ExistingNetworkSettings,
    ExternalDatabase,
    RdsDatabase,
)
from infra.preflight.account import Account, MissingError
from infra.preflight.findings import Finding, State
from infra.preflight.plan import Plan

_SERVERLESS = "db.serverless"


def check_zones(plan: Plan, account: Account) -> Iterator[Finding]:
    """The region has the zones of the settings."""
    database = plan.settings.database
    if isinstance(database, ExternalDatabase):
        if database.network is not None:
            yield from _check_existing_network(plan, account, database.network)
        return
    zones = _read_zones(plan, account)
    for zone in database.network.all_zones:
        found = _find_zone(zones, zone)
        if found is None:
            yield Finding(
                State.WILL_FAIL,
                "zone",
                zone,
                f"{plan.settings.region} has {', '.join(_list_ids(zones))} for this account",
                "set database.network.zones to ids of these",
            )
        else:
            label = f"{found['ZoneName']} ({found['ZoneId']})"
            detail = label if zone == found["ZoneId"] else f"the region's zone {zone} is {label}"
            yield Finding(State.OK, "zone", zone, detail)


def _check_existing_network(
    plan: Plan, account: Account, network: ExistingNetworkSettings
) -> Iterator[Finding]:
    region = plan.settings.region
    calls: Sequence[tuple[str, str, Mapping[str, object]]] = (
        ("network", network.vpc_id, {"VpcIds": [network.vpc_id]}),
        *(("subnet", name, {"SubnetIds": [name]}) for name in network.subnet_ids),
        ("security group", network.security_group_id, {"GroupIds": [network.security_group_id]}),
    )
    methods = {
        "network": "describe_vpcs",
        "subnet": "describe_subnets",
        "security group": "describe_security_groups",
    }
    for check, name, parameters in calls:
        if account.exists("ec2", region, methods[check], **parameters):
            yield Finding(State.OK, check, name, "exists")
        else:
            next_step = "correct database.network, or use credentials of its account"
            yield Finding(State.WILL_FAIL, check, name, f"does not exist in {region}", next_step)


def _read_zones(plan: Plan, account: Account) -> list[Mapping[str, Any]]:
    """The zones that the account may use, in the order of their names, as `Fn::GetAZs`."""
    answer = account.call(
        "ec2",
        plan.settings.region,
        "describe_availability_zones",
        Filters=[
            {"Name": "zone-type", "Values": ["availability-zone"]},
            {"Name": "state", "Values": ["available"]},
        ],
    )
    return sorted(answer["AvailabilityZones"], key=lambda zone: str(zone["ZoneName"]))


def _find_zone(zones: Sequence[Mapping[str, Any]], zone: str) -> Mapping[str, Any] | None:
    if zone.isdecimal():
        return zones[int(zone) - 1] if int(zone) <= len(zones) else None
    return next((found for found in zones if found["ZoneId"] == zone), None)


def _list_ids(zones: Sequence[Mapping[str, Any]]) -> list[str]:
    return [str(zone["ZoneId"]) for zone in zones]


def check_version(plan: Plan, account: Account) -> Iterator[Finding]:
    """The region has the database's version, and the version has the settings' features."""
    database = plan.settings.database
    if isinstance(database, ExternalDatabase):
        return
    engine = _choose_engine(database)
    family = f"{engine}{database.version.partition('.')[0]}"
    versions = account.list(
        "rds",
        plan.settings.region,
        "describe_db_engine_versions",
        "DBEngineVersions",
        Engine=engine,
        DBParameterGroupFamily=family,
    )
    by_name = {version["EngineVersion"]: version for version in versions}
    name = f"{engine} {database.version}"
    if not by_name:
        next_step = "set database.version to a version of the region"
        detail = f"{plan.settings.region} has no version of {family}"
        yield Finding(State.WILL_FAIL, "version", name, detail, next_step)
    elif "." in database.version and database.version not in by_name:
        detail = f"{plan.settings.region} has {', '.join(sorted(by_name))}"
        next_step = "set database.version to one of these"
        yield Finding(State.WILL_FAIL, "version", name, detail, next_step)
    else:
        yield from _judge_version(name, database, by_name.get(database.version))


def _choose_engine(database: RdsDatabase | AuroraDatabase) -> str:
    return "postgres" if isinstance(database, RdsDatabase) else "aurora-postgresql"


def _judge_version(
    name: str, database: RdsDatabase | AuroraDatabase, version: Mapping[str, Any] | None
) -> Iterator[Finding]:
    """The version's own state; None for a major version, of which RDS chooses the minor one."""
    if version is not None and version.get("Status", "available") != "available":
        detail = f"AWS has marked it as {version['Status']}"
        yield Finding(State.WARNING, "version", name, detail, "choose a newer database.version")
    else:
        yield Finding(State.OK, "version", name, "the region has it")
    serverless = database.serverless if isinstance(database, AuroraDatabase) else None
    if serverless is None or version is None:
        return
    wanted = f"{serverless.min_units:g} to {serverless.max_units:g} units"
    units = version.get("ServerlessV2FeaturesSupport", {})
    if not {"MinCapacity", "MaxCapacity"} <= units.keys():
        next_step = "compare with the Aurora user guide, “Aurora Serverless v2 capacity”"
        detail = f"{wanted}; AWS names no range for the version"
        yield Finding(State.WARNING, "serverless", name, detail, next_step)
        return
    low, high = units["MinCapacity"], units["MaxCapacity"]
    if low <= serverless.min_units and serverless.max_units <= high:
        yield Finding(State.OK, "serverless", name, f"{wanted} of {low:g} to {high:g}")
    else:
        detail = f"{wanted}, but the version has {low:g} to {high:g}"
        next_step = "change database.serverless, or choose a newer database.version"
        yield Finding(State.WILL_FAIL, "serverless", name, detail, next_step)


def check_classes(plan: Plan, account: Account) -> Iterator[Finding]:
    """The zones have the classes of the database's servers, with the required features."""
    database = plan.settings.database
    if isinstance(database, ExternalDatabase):
        return
    zones = _read_zones(plan, account)
    names = [
        str(found["ZoneName"])
        for zone in database.network.all_zones
        if (found := _find_zone(zones, zone)) is not None
    ]
    for instance_class in _list_classes(database):
        options = account.list(
            "rds",
            plan.settings.region,
            "describe_orderable_db_instance_options",
            "OrderableDBInstanceOptions",
            Engine=_choose_engine(database),
            DBInstanceClass=instance_class,
            Vpc=True,
            # A major version is not a version that is offered.
            **({"EngineVersion": database.version} if "." in database.version else {}),
        )
        yield _judge_class(plan, database, instance_class, names, options)


def _list_classes(database: RdsDatabase | AuroraDatabase) -> list[str]:
    classes: list[str | None] = [database.instance_class]
    if isinstance(database, RdsDatabase) and database.replicas:
        classes.append(database.replica_class or database.instance_class)
    return sorted({_SERVERLESS if name is None else f"db.{name}" for name in classes})


def _judge_class(
    plan: Plan,
    database: RdsDatabase | AuroraDatabase,
    instance_class: str,
    zones: Sequence[str],
    options: Sequence[Mapping[str, Any]],
) -> Finding:
    version = f"{_choose_engine(database)} {database.version}"
    if not options:
        return Finding(
            State.WILL_FAIL,
            "instance class",
            instance_class,
            f"{plan.settings.region} does not offer it for {version}",
            "choose another class: aws rds describe-orderable-db-instance-options --engine "
            f"{_choose_engine(database)} --engine-version {database.version} "
            f"--region {plan.settings.region} --query "
            "'OrderableDBInstanceOptions[].DBInstanceClass'",
        )
    for feature, description in _list_features(database).items():
        if not any(option.get(feature) for option in options):
            detail = f"it has no {description} with {version}"
            next_step = "choose another class, or change the settings"
            return Finding(State.WILL_FAIL, "instance class", instance_class, detail, next_step)
    offered = {zone["Name"] for option in options for zone in option["AvailabilityZones"]}
    lacking = [zone for zone in zones if zone not in offered]
    needed = 2 if isinstance(database, RdsDatabase) and database.multi_az else 1
    if len(zones) - len(lacking) < needed:
        detail = f"only {', '.join(sorted(offered))} have it, and the settings use {zones}"
        next_step = "set database.network.zones to zones that have it"
        return Finding(State.WILL_FAIL, "instance class", instance_class, detail, next_step)
    if lacking:
        detail = f"not in {', '.join(lacking)}: no server can move there"
        return Finding(State.WARNING, "instance class", instance_class, detail)
    return Finding(State.OK, "instance class", instance_class, f"in all zones, for {version}")


def _list_features(database: RdsDatabase | AuroraDatabase) -> dict[str, str]:
    """The features that a class must have, by the members of an orderable option."""
    features = {
        "SupportsIAMDatabaseAuthentication": "logins with IAM tokens",
        "SupportsStorageEncryption": "encryption",
    }
    if isinstance(database, RdsDatabase):
        if database.multi_az:
            features["MultiAZCapable"] = "standby instance"
        if database.replicas:
            features["ReadReplicaCapable"] = "read replicas"
    elif database.in_global is not None:
        features["SupportsGlobalDatabases"] = "global database"
    if database.insights_days is not None:
        features["SupportsPerformanceInsights"] = "Performance Insights"
    return features


def check_read_cache(plan: Plan, account: Account) -> Iterator[Finding]:
    """The region has the read cache's node type and engine."""
    cache = plan.settings.read_cache
    if cache is None:
        return
    region, node_type = plan.settings.region, f"cache.{cache.node_type}"
    # ElastiCache has no list of node types for a region; the offers of reservations name them.
    try:
        offers = account.list(
            "elasticache",
            region,
            "describe_reserved_cache_nodes_offerings",
            "ReservedCacheNodesOfferings",
            CacheNodeType=node_type,
        )
    except MissingError:
        offers = []
    if offers:
        yield Finding(State.OK, "node type", node_type, f"{region} offers it")
    else:
        detail = f"{region} offers no reservations of it, so it may not exist there"
        next_step = "compare with ElastiCache's prices for the region, or change read_cache"
        yield Finding(State.WARNING, "node type", node_type, detail, next_step)
    engines = account.list(
        "elasticache",
        region,
        "describe_cache_engine_versions",
        "CacheEngineVersions",
        Engine="valkey",
    )
    versions = sorted(str(engine["EngineVersion"]) for engine in engines)
    for group in plan.list_resources("AWS::ElastiCache::ReplicationGroup"):
        wanted = str(group["Properties"]["EngineVersion"])
        fits = any(version == wanted or version.startswith(f"{wanted}.") for version in versions)
        yield Finding(
            State.OK if fits else State.WILL_FAIL,
            "cache engine",
            f"valkey {wanted}",
            f"{region} has it" if fits else f"{region} has {', '.join(versions) or 'none'}",
            "" if fits else "deploy without [read_cache]",
        )
