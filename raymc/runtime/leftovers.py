"""Placement groups whose maker died: room that nobody uses, and that Ray keeps for them until the job ends.

A group of workers is placed by its controller, an actor. Ray Train's own cleaner knows of the placement once all
workers are up, and asks the dashboard whether the controller lives, which not every Ray has. Left alone, a trial whose
process dies would wait for the room that it had before.
"""

from __future__ import annotations

from collections.abc import Mapping

import ray


def give_back(bundle: Mapping[str, float]) -> int:
    """Remove this job's placement groups of such bundles alone (resources by name) whose maker died; how many."""
    from ray._private.state import state
    from ray.core.generated.gcs_pb2 import PlacementGroupTableData as Table  # pyright: ignore[reportAttributeAccessIssue]
    from ray.util.placement_group import PlacementGroup, remove_placement_group

    wanted = {name: amount for name, amount in bundle.items() if amount}
    job, found = ray.get_runtime_context().get_job_id(), 0
    for content in state._connect_and_get_accessor().get_placement_group_table():
        one = Table.FromString(content)
        ours = one.creator_job_id.hex() == job and all(dict(each.unit_resources) == wanted for each in one.bundles)
        if ours and one.creator_actor_dead and not one.is_detached and one.state != Table.REMOVED:
            remove_placement_group(PlacementGroup(ray.PlacementGroupID(one.placement_group_id)))
            found += 1
    return found
