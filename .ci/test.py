"""The whole suite: what the house must keep, then every notebook top to bottom. Last line: `N passed, M failed`.

usage: test.py [--fast] [--only STEM] [--workers 2] [--timeout 600]     (or `make test ARGS="--only 06_blocks"`)
A check is a function that returns what is wrong, a list of strings; an empty list is a pass.
"""
import argparse, ast, json, os, re, shutil, signal, subprocess, sys, tempfile, time, traceback, zipfile
from concurrent.futures import ThreadPoolExecutor
from configparser import ConfigParser
from contextlib import contextmanager
from pathlib import Path
import readme

root = Path(__file__).resolve().parents[1]
ini = ConfigParser(delimiters=['='], interpolation=None)
ini.read(root/'settings.ini', encoding='utf-8')
cfg = ini['DEFAULT']
lib, nbs = cfg['lib_name'], root/cfg['nbs_path']
notebooks = sorted(nbs.glob('*.ipynb'))
LAZY = 'accelerate datasets diffusers gradio peft torchmetrics transformers'.split() # loaded inside the functions that need them
BIG = 16 * 2**20                                                                     # bytes, largest file we keep
SKIP_DIRS = {'.git', '.venv', '.ruff_cache', '__pycache__', '.ipynb_checkpoints', 'build', 'dist', 'runs', '_proc', '_docs'}
ENV = {**os.environ, 'HF_HUB_OFFLINE': '1', 'TOKENIZERS_PARALLELISM': 'false', 'MPLBACKEND': 'agg'}
ENV.pop('IN_TEST', None)                                                             # nbdev_export does nothing while it is set

# ---- helpers

results = []
def check(name, fn, *args):
    "Run one check, print its line and what is wrong, count it"
    start = time.time()
    try: wrong = fn(*args)
    except Exception: wrong = [traceback.format_exc(limit=-3)]
    results.append(not wrong)
    lines = '\n'.join(wrong).splitlines()
    print(f"{'FAIL' if wrong else 'ok  '} {time.time() - start:6.1f} s  {name}", *(f'     | {l}' for l in lines), sep='\n', flush=True)

def sh(*cmd, cwd=root, **env):
    "Run a command: `(exit status, stdout and stderr together)`"
    p = subprocess.run([str(c) for c in cmd], cwd=cwd, env={**ENV, **env}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors='replace')
    return p.returncode, p.stdout

def tool(name): return Path(sys.executable).parent/name

@contextmanager
def copied(*names):
    "A temporary folder with copies of these files and folders of the repository"
    with tempfile.TemporaryDirectory() as tmp:
        for p in (root/n for n in names if (root/n).exists()):
            if p.is_dir(): shutil.copytree(p, Path(tmp)/p.name, ignore=shutil.ignore_patterns(*SKIP_DIRS))
            else: shutil.copy(p, tmp)
        yield Path(tmp)

def join(s): return s if isinstance(s, str) else ''.join(s)
def read(path): return json.loads(path.read_text(encoding='utf-8'))

def homes():
    "`{module: notebook stem}` in the order of the notebooks, from their `default_exp`"
    found = {}
    for p in notebooks:
        try: cells = read(p)['cells']
        except ValueError: continue                                                  # reported by `clean`
        for c in cells:
            if m := re.search(r'^#\|\s*default_exp\s+(\S+)', join(c['source']), flags=re.M): found.setdefault(m[1], []).append(p.stem)
    return found

# ---- the notebooks as files

def tree_small():
    "No file above 16 MiB, `data/` included"
    wrong = []
    for folder, dirs, names in os.walk(root):
        dirs[:] = [d for d in dirs if d not in SKIP_DIRS and not Path(folder, d, 'pyvenv.cfg').exists()]
        for p in (Path(folder)/n for n in names):
            if p.is_file() and p.stat().st_size > BIG: wrong.append(f'{p.relative_to(root)}: want at most 16 MiB, got {p.stat().st_size / 2**20:.1f}')
    return wrong

def clean():
    "`nbdev_clean` would change nothing"
    with copied('settings.ini', nbs.name) as tmp:
        status, out = sh(tool('nbdev_clean'), cwd=tmp)
        wrong = [out] if status or 'Failed' in out else []
        return wrong + [f'{p.name}: run nbdev_clean' for p in notebooks if p.read_bytes() != (tmp/nbs.name/p.name).read_bytes()]

PATHS = re.compile(r'(?<![\w./-])/(?:work|root|home|tmp|Users|var/folders)/[^\s"\'<>]*')
def residue(path):
    "What one notebook stores and should not: errors, widgets, progress bars, paths of a machine, double or missing ids"
    nb, wrong = read(path), []
    ids = [c.get('id') for c in nb['cells']]
    if None in ids or len(ids) != len(set(ids)) or (nb['nbformat'], nb['nbformat_minor']) != (4, 5): wrong.append('want a different id in every cell, nbformat 4.5')
    if 'widgets' in nb['metadata']: wrong.append('widget state in the metadata')
    for i, c in enumerate(nb['cells'], 1):
        for o in c.get('outputs', []):
            data = o.get('data', {})
            texts = [join(v) for k, v in data.items() if k.startswith('text/') or 'svg' in k] + [join(o.get('text', ''))]
            if o['output_type'] == 'error': wrong.append(f"cell {i}: stored error {o['ename']}")
            if any('widget-view' in k for k in data): wrong.append(f'cell {i}: widget view')
            if '\r' in texts[-1]: wrong.append(f'cell {i}: progress bar residue')
            for t in texts: wrong += [f'cell {i}: path of a machine: {m}' for m in PATHS.findall(re.sub(r'data:[^"\')\s]+', '', t))]
    return [f'{path.name} {w}' for w in wrong]

def no_residue(): return [w for p in notebooks for w in residue(p)] if notebooks else [f'no notebooks in {nbs.name}/']

# ---- the package and the README as what the notebooks say

def in_step():
    "Exporting into an empty package gives the package, file by file; no two notebooks write the same module"
    wrong = [f'default_exp {m}: want one notebook, got {stems}' for m, stems in homes().items() if len(stems) > 1]
    with copied('settings.ini', nbs.name) as tmp:
        status, out = sh(tool('nbdev_export'), cwd=tmp)
        if status: return wrong + [out]
        new, old = ({str(p.relative_to(d)): p.read_text() for p in (d/lib).rglob('*.py')} for d in (tmp, root))
    if not new: wrong.append('nbdev_export wrote nothing')
    return wrong + [f"{f}: {'not from any notebook' if f not in new else 'missing' if f not in old else 'differs'}; run make export" for f in sorted(new | old) if new.get(f) != old.get(f)]

def readme_in_step():
    "README.md and its pictures are what index.ipynb gives; its links lead somewhere"
    index, page = nbs/'index.ipynb', root/'README.md'
    if not (index.exists() and page.exists()): return ['want both nbs/index.ipynb and README.md']
    text, files = readme.readme(index)
    kept = {f'{readme.pics}/{p.name}' for p in (root/readme.pics).glob('readme-*')}
    wrong = [] if page.read_text(encoding='utf-8') == text else ['README.md: run make readme']
    wrong += [f'{p}: run make readme' for p in sorted(files.keys() | kept) if p not in kept or p not in files or (root/p).read_bytes() != files[p]]
    return wrong + [f'README.md: no such file: {p}' for p in readme.local_links(text) if not (root/p).exists()]

def imported(tree):
    "Modules that code imports, as `(dotted name, at the top level?)`; `.x` stands for a module of ours"
    top = set(map(id, tree.body))
    for n in ast.walk(tree):
        if isinstance(n, ast.Import): names = [a.name for a in n.names]
        elif isinstance(n, ast.ImportFrom) and n.module: names = ['.' * n.level + n.module]
        elif isinstance(n, ast.ImportFrom): names = ['.' + a.name for a in n.names]
        else: continue
        for name in names: yield (re.sub(rf'^{lib}\.', '.', name), id(n) in top)

def code(cell):
    "The syntax tree of a code cell without magics, empty if it is not Python"
    try: return ast.parse(re.sub(r'^\s*[%!].*', '', join(cell['source']), flags=re.M) if cell['cell_type'] == 'code' else '')
    except SyntaxError: return ast.parse('')

def earlier():
    "A module, and the notebook it comes from, import only from modules of earlier notebooks"
    home, wrong = {m: stems[0] for m, stems in homes().items()}, []
    for m, stem in home.items():
        trees = [ast.parse((root/lib/f'{m}.py').read_text()), *map(code, read(nbs/f'{stem}.ipynb')['cells'])]
        ours = {n[1:].partition('.')[0] for t in trees for n, _ in imported(t) if n.startswith('.')} - {m}
        wrong += [f'{m} ({stem}) imports {o} ({home.get(o, "of no notebook")})' for o in sorted(ours) if home.get(o, '~') >= stem]
    return wrong

def declared():
    "Third-party imports are declared in settings.ini: at the top level among `requirements`, inside functions there or in an extra"
    from importlib.metadata import packages_distributions
    from packaging.requirements import Requirement
    norm, dists, wrong = lambda s: re.sub(r'[-_.]+', '-', s).lower(), packages_distributions(), []
    need = {norm(Requirement(r).name) for r in cfg['requirements'].split()}
    extra = need | {norm(Requirement(r).name) for k, v in cfg.items() if k.endswith('_requirements') for r in v.split()}
    for p in sorted((root/lib).glob('*.py')):
        for name, top in imported(ast.parse(p.read_text())):
            pkg = name.partition('.')[0]
            if not pkg or pkg == lib or pkg in sys.stdlib_module_names: continue
            if not {norm(d) for d in dists.get(pkg, [pkg])} & (need if top else extra): wrong.append(f"{p.name}: {pkg} is not in {'requirements' if top else 'any requirements'} of settings.ini")
    return sorted(set(wrong))

def imports_alone(module):
    "The module imports in a fresh process and leaves the heavy libraries alone"
    show = f'import sys, {lib}.{module}; print("heavy:", *sorted({set(LAZY)!r} & set(sys.modules)))'
    with tempfile.TemporaryDirectory() as tmp: status, out = sh(sys.executable, '-c', show, cwd=tmp, PYTHONPATH=str(root))
    heavy = out.rpartition('heavy:')[2].split()
    return [out[-2000:]] if status else [f'loads {" ".join(heavy)}: import inside the function that needs it'] if heavy else []

def lint():
    "Ruff: undefined names, in package and notebooks (what to look for stands in pyproject.toml)"
    status, out = sh(tool('ruff'), 'check', '--no-cache', '--output-format=concise', lib, nbs.name, '.ci')
    return [out] if status else []

def wheel():
    "`pip wheel` gives every module, the declared requirements and the commands"
    from packaging.requirements import Requirement as R
    with copied('setup.py', 'settings.ini', 'pyproject.toml', 'README.md', lib) as tmp:
        status, out = sh(sys.executable, '-m', 'pip', 'wheel', '-q', '--no-deps', '--no-build-isolation', '-w', 'out', '.', cwd=tmp)
        if status: return [out]
        with zipfile.ZipFile(next((tmp/'out').glob('*.whl'))) as z: files = {n: z.read(n).decode() for n in z.namelist() if n.endswith(('.py', '/METADATA', '/entry_points.txt'))}
    part = lambda end: next((t for n, t in files.items() if n.endswith(end)), '')
    got = {str(R(r)) for r in re.findall(r'^Requires-Dist: (.*)$', part('/METADATA'), flags=re.M) if 'extra ==' not in r}
    want, commands = {str(R(r)) for r in cfg['requirements'].split()}, part('/entry_points.txt')
    wrong = [f'METADATA: want requirements {sorted(want - got)}, got {sorted(got - want)} instead'] if want != got else []
    wrong += [f'entry point missing: {c}' for c in cfg['console_scripts'].split('\n') if c.replace('=', ' = ') not in commands]
    return wrong + [f'{p.name} is not in the wheel' for p in (root/lib).glob('*.py') if f'{lib}/{p.name}' not in files]

def command():
    "The `pixart` entry point leads to a function"
    name, target = cfg['console_scripts'].split('=')
    module, fn = target.split(':')
    status, out = sh(sys.executable, '-c', f'from {module} import {fn}; assert callable({fn})')
    return [out[-2000:]] if status else []

# ---- the notebooks as programs

DONE, running = 77, set() # DONE: exit status of a notebook that reached its end; 0 could be an `exit` in a cell
def kill(p):
    "End a notebook and everything it started"
    try: os.killpg(p.pid, signal.SIGKILL)
    except ProcessLookupError: pass

def interrupt(p):
    "Ctrl-C, so that the notebook shows the cell it is in"
    p.send_signal(signal.SIGINT)
    try: p.wait(10)
    except subprocess.TimeoutExpired: pass

def run_nb(path, timeout, threads):
    "One notebook in a process of its own; the cells behind `tst_flags` are skipped"
    env = {**ENV, 'OMP_NUM_THREADS': str(threads), 'MKL_NUM_THREADS': str(threads)}
    with tempfile.TemporaryFile('w+', errors='replace') as f:
        p = subprocess.Popen([sys.executable, __file__, '--one', path], cwd=root, env=env, stdin=subprocess.DEVNULL, stdout=f, stderr=f, start_new_session=True)
        running.add(p)
        try: status = p.wait(timeout)
        except subprocess.TimeoutExpired: status = interrupt(p) or f'ran longer than {timeout} s'
        finally: kill(p); running.discard(p)
        f.seek(0); out = re.sub(r'\x1b\[[\d;]*m', '', f.read())
    if status == DONE: return []
    cell = re.search(r'Cell #(\d+):', out)
    lines = join(read(path)['cells'][int(cell[1]) - 1]['source']).splitlines() if cell else []
    return [f'{path.stem}: {status if isinstance(status, str) else f"exit status {status}"}', *(f'>>> {l}' for l in lines), *out.splitlines()[-25:]]

def one(path):
    "The child process of `run_nb`"
    from nbdev.test import test_nb
    ok, _ = test_nb(Path(path), skip_flags=cfg['tst_flags'].split(), basepath=root)
    sys.exit(DONE if ok else 1)

def run_all(paths, workers, timeout):
    "All notebooks, `workers` at a time, those that took longest last time first (unknown ones: later lessons first)"
    log = Path(sys.prefix)/'notebook_seconds.json'
    took = json.loads(log.read_text()) if log.exists() else {}
    paths = sorted(paths, key=lambda p: (took.get(p.stem, timeout), p.stem), reverse=True)
    def go(p):
        start = time.time()
        check(p.stem, run_nb, p, timeout, max(1, (os.cpu_count() or 1) // workers) if workers == 1 else 1)
        took[p.stem] = round(time.time() - start, 1)
    with ThreadPoolExecutor(workers) as pool:
        try: list(pool.map(go, paths))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for p in list(running): kill(p)
            raise
    log.write_text(json.dumps(took, indent=1))

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--fast', action='store_true', help='all but running the notebooks')
    p.add_argument('--only', metavar='STEM', help='run the notebooks whose name starts so, nothing else')
    p.add_argument('--workers', type=int, default=2)
    p.add_argument('--timeout', type=int, default=600, help='seconds per notebook')
    p.add_argument('--one', help=argparse.SUPPRESS)
    a = p.parse_args()
    if a.one: one(a.one)
    if not a.only:
        check('no file above 16 MiB', tree_small)
        check('notebooks are clean', clean)
        check('notebooks hold no errors, widgets, progress bars, paths', no_residue)
        check('package in step with the notebooks', in_step)
        if (nbs/'index.ipynb').exists() or (root/'README.md').exists(): check('README.md in step with index.ipynb', readme_in_step)
        check('imports only from earlier notebooks', earlier)
        check('third-party imports are declared', declared)
        for m in homes(): check(f'import {lib}.{m}', imports_alone, m)
        check('no undefined names', lint)
        check('the wheel declares what it needs', wheel)
        check('the pixart command exists', command)
    if not a.fast:
        paths = [p for p in notebooks if p.stem.startswith(a.only or '')]
        if not paths: check(f'notebooks named {a.only or "at all"}', lambda: ['there are none'])
        run_all(paths, a.workers, a.timeout)
    print(f'{sum(results)} passed, {len(results) - sum(results)} failed', flush=True)
    sys.exit(not all(results))

if __name__ == '__main__': main()
