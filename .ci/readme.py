"""README.md from nbs/index.ipynb: prose, code and outputs; pictures in outputs become files in nbs/images/. Standard library only.

usage: readme.py     (or `make readme`)
"""
import base64, json, posixpath, re
from pathlib import Path

root, pics = Path(__file__).resolve().parents[1], 'nbs/images'
KINDS = {'image/png': 'png', 'image/jpeg': 'jpg', 'image/svg+xml': 'svg'}
join = lambda s: s if isinstance(s, str) else ''.join(s)
fence = lambda text, lang='': f'```{lang}\n{text.strip(chr(10))}\n```'

def relink(text):
    "Links in `text`, relative to nbs/, made relative to the root; code is left alone"
    move = lambda m: m[1] + (m[2] if re.match(r'[a-z]+:|[#/]', m[2]) else posixpath.normpath(f'nbs/{m[2]}'))
    parts = re.split(r'(```.*?```|`[^`\n]+`)', text, flags=re.S)
    return ''.join(p if i % 2 else re.sub(r'(\]\(|(?:src|href)=")([^)\s"]+)', move, p) for i, p in enumerate(parts))

def output(o, files):
    "One stored output as markdown; a picture is added to `files`, `{path: bytes}`"
    if o['output_type'] == 'error': raise ValueError(f"index.ipynb: want outputs without errors, got a stored {o['ename']}")
    data = {k: join(v) for k, v in o.get('data', {}).items() if k.startswith(('text/', 'image/'))}
    for kind, ext in KINDS.items():
        if kind in data:
            path = f'{pics}/readme-{len(files) + 1}.{ext}'
            files[path] = data[kind].encode() if ext == 'svg' else base64.b64decode(data[kind])
            return f'![]({path})'
    if 'text/markdown' in data: return relink(data['text/markdown'])
    return fence(join(o.get('text', '')) or data.get('text/plain', ''))

def cell(c, files):
    "One cell as a list of markdown blocks; `#| hide`, `#| echo: false` and `#| output: false` are obeyed"
    src = join(c['source'])
    if c['cell_type'] == 'markdown': return [relink(src)]
    flags = [re.sub(r'\s', '', f) for f in re.findall(r'^#\|(.*)$', src, flags=re.M)]
    if c['cell_type'] != 'code' or any(f in ('hide', 'include:false') or f.startswith('default_exp') for f in flags): return []
    code = re.sub(r'^#\|.*\n?', '', src, flags=re.M)
    return [fence(code, 'python')] * ('echo:false' not in flags) + [output(o, files) for o in c['outputs'] if 'output:false' not in flags]

def readme(index):
    "`(text, {path: bytes})`: the README and its pictures"
    files, blocks = {}, []
    for c in json.loads(index.read_text(encoding='utf-8'))['cells']: blocks += cell(c, files)
    note = '<!-- written by `make readme` from nbs/index.ipynb: edit that -->'
    return '\n\n'.join([note, *(b.strip('\n') for b in blocks if b.strip())]) + '\n', files

def local_links(text):
    "Files and folders of this repository that the README `text` points to"
    text = re.sub(r'```.*?```|`[^`\n]+`', '', text, flags=re.S)
    return [p for p in re.findall(r'(?:\]\(|(?:src|href)=")([^)\s"#]+)', text) if not re.match(r'[a-z]+:', p)]

if __name__ == '__main__':
    text, files = readme(root/'nbs/index.ipynb')
    (root/pics).mkdir(exist_ok=True)
    for old in (root/pics).glob('readme-*'): old.unlink()
    for path, data in files.items(): (root/path).write_bytes(data)
    (root/'README.md').write_text(text, encoding='utf-8')
    print(f'README.md: {len(text.splitlines())} lines, {len(files)} pictures in {pics}/')
