"""The Python face: load a model, act, evaluate, collect, train. `import db1` names all of it."""
