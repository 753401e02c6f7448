// libvhdi as second judge, through its Python module, which belongs to /usr/bin/python3. It is wrong
// about ZERO blocks in a child (shows the parent) and ignores logs: give it neither.

import { SYSTEM_PYTHON } from './need.js';
import { expectTool } from './run-tool.js';

export const PYVHDI = 'pyvhdi';

const SCRIPT = `
import hashlib, sys, pyvhdi
files = []
for name in sys.argv[1:]:
    file = pyvhdi.file()
    file.open(name)
    files.append(file)
for child, parent in zip(files, files[1:]):
    child.set_parent(parent)
top = files[0]
left = top.get_media_size()
digest = hashlib.sha256()
while left > 0:
    data = top.read_buffer(min(left, 1 << 20))
    if not data:
        sys.exit("short read")
    digest.update(data)
    left -= len(data)
print(digest.hexdigest())
`;

/** SHA-256 of the virtual disk of a chain, topmost file first. */
export async function pyvhdiHash(...files: string[]): Promise<string> {
  const { text } = await expectTool(SYSTEM_PYTHON, ['-c', SCRIPT, ...files]);
  return text.trim();
}
