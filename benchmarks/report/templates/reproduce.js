// How to reproduce a row: commands for a shell, for each of its seeds.

function shellQuoted(words) {
  return `'${words.replaceAll("'", "'\\''")}'`;
}

// Checkout and installation are repeated only where a seed was measured with another commit than the one before. Results go
// to a folder of their own: a record that is there already would not be measured again.
function commands(own) {
  const lines = ["# in a clone of RateBench's repository"];
  let commit = "";
  for (const { id, method, provenance } of own) {
    if (provenance.commit !== commit) {
      commit = provenance.commit;
      lines.push(commit === null ? "# the commit is not known" : `git checkout ${commit}`);
      if (provenance.dirty) lines.push("# measured with changes that were not committed: the file may differ");
      lines.push("python3 -m venv .venv && . .venv/bin/activate && pip install -c constraints.txt -e '.[peers]'");
      if (page.installs[method]) lines.push(`pip install --no-deps -r ${shellQuoted(page.installs[method])}`);
    }
    lines.push(`${provenance.command} --results reproduced`);
    lines.push(`echo ${shellQuoted(`${provenance.artefact_sha256}  reproduced/${id}.rbn`)} | sha256sum --check`);
  }
  return lines.join("\n");
}

function reproduction(own) {
  const folded = cell("details", cell("summary", "How do I reproduce this row?"), { className: "reproduce" }), text = commands(own);
  const button = cell("button", "copy the commands", { type: "button" }), actions = cell("p", button, { className: "actions" });
  button.addEventListener("click", () => copy(text));
  const note = "With the versions and a processor of the kind named below, the file is the same to the byte. Elsewhere the last bits of floating-point numbers can differ, and with them the file.";
  folded.append(cell("p", note, { className: "note" }), cell("pre", text, { tabIndex: 0 }), actions);
  return folded;
}
