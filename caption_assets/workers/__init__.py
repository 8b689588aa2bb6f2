"""Worker processes, and what they do with clips.

Here: what every backend is (`base`), the processes of this machine (`local`, `process`; another backend would stand
beside them), how messages travel (`transport`), what a process runs (`main`), and the tasks on a clip (`tasks`), which
put `media` and `models` together. Not here: how a clip is read or encoded, what a model is asked, what becomes of
results. A worker imports no table, file system or engine that its task does not need, and nothing is imported with this
package.
"""
