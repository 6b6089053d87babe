"""Operations that questions name; they run in the student's kernel."""
