"""What a run writes: its directory, checkpoints and exported files, and how all of it is read back.

names             what the files are called; no other module defines names
files             writing a file whole or not at all
directory         writing a run directory: configs, environment, summary
labels            names of folders that a person can read
results           reading runs and sweeps back
checkpoints       saving and restoring the whole state, by Orbax
saved             reading checkpoints without Orbax: which exist, their JSON, their meta-parameters
meta_parameters   V_M as arrays by name, in one portable file
sources           V_M of a run, a checkpoint or a file, to go on from it

The modules are imported one by one: Orbax alone takes as long as half of what `vsml eval` needs to start.
"""
