from podweave.cli import main

main()
