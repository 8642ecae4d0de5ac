# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
#
# Reads VirtualBox.xml and prints the settings files of the VMs that it names. Runs on the host,
# under mawk, gawk, busybox awk and the awk of macOS, in the C locale. VirtualBox writes one element
# on each line, and non-ASCII characters as &#x...; references; paths need them as UTF-8.
#
# This file is sent as one line with single spaces: each comment has its own line, no text contains
# two spaces, and the code has neither an exclamation mark, which csh expands, nor a single quote.
#
# Variables:
#   n    starts each frame
#   m    what to print for each VM
#        all:   a frame with its UUID and the path of its settings file (as XML has it), and the file
#        heads: the same frame, and the file's <Machine> line
#        saved: for one VM, "saved" or "unsaved"; nothing if its file cannot be read
#   u    the UUID of the only VM to print; empty: all VMs
#   d    the folder of VirtualBox.xml
#   max  how many bytes of a file to print; a frame "oversize" follows a longer file
#
# Exits with 1 if VirtualBox.xml is empty, and with another error if there is none. In mode "all" it
# waits for settings files that do not exist, because VirtualBox may be replacing them: 0.02 s each
# time, and nine times in all.

function hex(s, i, v) {
  v = 0;
  for (i = 1; i <= length(s); i++)
    v = v * 16 + index("0123456789ABCDEF", toupper(substr(s, i, 1))) - 1;
  return v;
}
function utf8(c) {
  if (c < 128) return sprintf("%c", c);
  if (c < 2048) return sprintf("%c%c", 192 + int(c / 64), 128 + c % 64);
  if (c < 65536)
    return sprintf("%c%c%c", 224 + int(c / 4096), 128 + int(c / 64) % 64, 128 + c % 64);
  return sprintf("%c%c%c%c", 240 + int(c / 262144), 128 + int(c / 4096) % 64,
    128 + int(c / 64) % 64, 128 + c % 64);
}
function entity(name) {
  if (name == "amp") return "&";
  if (name == "lt") return "<";
  if (name == "gt") return ">";
  if (name == "quot") return "\"";
  if (name == "apos") return sprintf("%c", 39);
  if (substr(name, 1, 2) == "#x") return utf8(hex(substr(name, 3)));
  if (substr(name, 1, 1) == "#") return utf8(substr(name, 2) + 0);
  return "&" name ";";
}
function unescape(s, out, p) {
  out = "";
  while ((p = index(s, "&")) > 0) {
    out = out substr(s, 1, p - 1);
    s = substr(s, p + 1);
    p = index(s, ";");
    out = out entity(substr(s, 1, p - 1));
    s = substr(s, p + 1);
  }
  return out s;
}
function attribute(s, name) {
  if (sub(".* " name "=\"", "", s)) sub("\".*", "", s); else s = "";
  return s;
}
function saved(line) {
  gsub(/"[^"]*"/, "", line);
  return line ~ / stateFile=/ ? "saved" : "unsaved";
}
/<MachineEntry / {
  uuid = attribute($0, "uuid");
  if (length(u) > 0 && index(tolower(uuid), u) == 0) next;
  src = attribute($0, "src");
  file = substr(src, 1, 1) == "/" ? unescape(src) : d "/" unescape(src);
  framed = m == "all" || m == "heads";
  if (framed) printf "\n%s machine %s %s\n", n, uuid, src;
  bytes = 0;
  for (;;) {
    found = (getline line < file);
    if (found < 0 && m == "all" && waits++ < 9 && system("sleep 0.02") == 0) continue;
    if (found < 1) break;
    if ((bytes += length(line) + 1) > max) {
      if (framed) printf "\n%s oversize\n", n;
      break;
    }
    if (m == "all") print line;
    else if (line ~ /<Machine /) {
      print (framed ? line : saved(line));
      break;
    }
  }
  close(file);
}
END { exit (NR == 0); }
