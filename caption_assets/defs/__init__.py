"""The Dagster project: the only folder that imports Dagster. It decides when and for which shard, never how.

Here: the assets, what Dagster is told of them (`reporting`) and of the dataset (`source`), what it remembers of them
(`history`) and what is therefore to be done (`work`), jobs, sensors and schedules (`automation`), resources and the
IO manager; `build` puts them together, `run` runs them in this process.
Not here: anything that could be done without Dagster, which is a step.
"""

import warnings

import dagster as dg

# These are marked beta, or used by Dagster itself; it is pinned to a minor version, so the warning tells users nothing.
warnings.filterwarnings("ignore", category=dg.BetaWarning, message="Parameter `backfill_policy`")
warnings.filterwarnings("ignore", category=dg.BetaWarning, message="Function `observable_source_asset`")
warnings.filterwarnings("ignore", category=dg.BetaWarning, message="Parameter `use_user_code_server`")
warnings.filterwarnings("ignore", category=dg.BetaWarning, message="Class `DataVersionsByPartition`")
warnings.filterwarnings("ignore", category=dg.PreviewWarning, message="Specifying a partitions_def on an AssetCheck")
warnings.filterwarnings("ignore", category=dg.BetaWarning, message="Class `(LocalFileCodeReference|CodeReferencesM)")
warnings.filterwarnings("ignore", category=dg.BetaWarning, message="Parameter `execution_type`")
warnings.filterwarnings("ignore", category=DeprecationWarning, message="Property `OpDefinition.version`")
# The assets' policies differ on purpose (see `assets`); a job over all of them takes the smallest, as it should.
warnings.filterwarnings("ignore", category=UserWarning, message="Asset job .* varying BackfillPolicies")
