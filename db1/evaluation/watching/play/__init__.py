"""`db1 play`: one episode, with what the policy sees and how likely its actions are.

watch  --moments-->  Spectator  --scenes-->  faces: window, terminal, lines, film
"""
