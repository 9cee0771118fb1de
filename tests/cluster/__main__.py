"""`make cluster`: run a whole cluster on this machine until Ctrl-C."""

import asyncio
import contextlib
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from random import Random
from typing import Final

from tests.cluster import network
from tests.cluster.cluster import PATRONI_ENVIRONMENT, Cluster, Unavailable, missing
from tests.cluster.deployment import caller_token, cluster_deployment
from tests.faults.deployment import SERVICE_TOKEN
from tests.support.processes import ROOT

_HOME: Final = Path(tempfile.gettempdir()) / "pulse-cluster"
_ORDER: Final = (
    '{"order_unique_key":"ouk_first","instrument":"NSE:RELIANCE","side":"BUY","total_quantity":100,'
    '"split_config":{"num_splits":5,"duration_minutes":1}}'
)


def _usage(cluster: Cluster) -> str:
    patronictl = (PATRONI_ENVIRONMENT / "bin" / "patronictl").relative_to(ROOT)
    internal = _curl(f"{cluster.services_url}/internal/orders", SERVICE_TOKEN)
    public = _curl(f"{cluster.public_url}/api/orders", caller_token())
    return f"""
The cluster runs. This machine is {network.CLIENT_ADDRESS} in its network; all goes through HAProxy.

place an order   {internal}
as a caller      {public}
console          {cluster.services_url}/console, with the token {SERVICE_TOKEN}
HAProxy          http://{cluster.haproxy.address}:7000/
Patroni          {patronictl} -d etcd3://{cluster.etcds[0].address}:2379 list pulse
psql             psql '{cluster.conninfo}'
logs, disks      {cluster.home}/HOST

kill a server    kill -9 $(head -1 {cluster.home}/pg1/postgres/data/postmaster.pid)
unplug a host    ip -n {network.PREFIX}switch link set pg1 down     (up: plug it in)
a shell on one   ip netns exec {network.PREFIX}pg1 bash

Hosts: {", ".join(f"{host.name} {host.address}" for host in cluster.hosts)}
Ctrl-C stops everything and removes its files.
"""


def _curl(url: str, token: str) -> str:
    headers = f"-H 'Authorization: Bearer {token}' -H 'Content-Type: application/json'"
    return f"curl -s {url} {headers} -d '{_ORDER}'"


async def _run() -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    starting = asyncio.ensure_future(_serve(stop))
    stopped = asyncio.ensure_future(stop.wait())
    await asyncio.wait({starting, stopped}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await starting


async def _serve(stop: asyncio.Event) -> None:
    print("Starting the cluster, which takes about a minute ...")
    async with cluster_deployment(_HOME, Random(), readers=0) as deployment:
        print(_usage(deployment.cluster))
        await stop.wait()
    print("Stopped.")


def main() -> None:
    """Run until Ctrl-C; exit code 1 if this machine cannot run a cluster."""
    if (lacks := missing()) is not None:
        sys.exit(f"This machine cannot run a cluster; it lacks {lacks}.")
    shutil.rmtree(_HOME, ignore_errors=True)
    _HOME.mkdir(mode=0o755)
    try:
        asyncio.run(_run())
    except Unavailable as error:
        sys.exit(f"No cluster: {error}.")
    finally:
        shutil.rmtree(_HOME, ignore_errors=True)


if __name__ == "__main__":
    main()
