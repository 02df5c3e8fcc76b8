# The program behind /usr/sbin/wayhomed-helper; the package is in this file's own folder.
from wayhomed.helper.main import main

main()
